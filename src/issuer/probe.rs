//! Asks an issuer once, by the ways that it is asked in operation, and tells how it went: for
//! `vidimus doctor` and `vidimus inspect`.

use std::sync::Arc;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use tokio::time::timeout;
use url::form_urlencoded::Serializer;

use super::client_auth::Credentials;
use super::discovery::{Metadata, metadata};
use super::http::{Client, TIMEOUT, broken, whole_body};
use super::introspect::Introspector;
use super::jwks::Realm;
use super::{ClientError, FetchError, IssuerSettings, Plan, Planned};
use crate::check::{Json, JsonLimits, JsonRef, KeySet, OwnedToken, RawToken, Reply};
use crate::gate::Live;

/// An issuer that can be asked, without a task that keeps asking it.
pub struct Probe {
    realm: Arc<Realm>,
    live: Arc<Live>,
    client: Client,
    introspector: Option<Introspector>,
    credentials: Option<Arc<Credentials>>,
}

/// What was asked for, or what was asked and how it failed.
pub type Probed<T> = Result<T, ProbeError>;

/// What was asked, and how it failed.
#[derive(Debug)]
pub struct ProbeError {
    /// The address, if it came to that.
    pub url: Option<String>,
    /// Why.
    pub error: FetchError,
}

impl From<super::Failure> for ProbeError {
    fn from(failure: super::Failure) -> Self {
        Self { url: failure.url.map(|url| String::from(*url)), error: failure.error }
    }
}

/// Where a realm's keys are, and where it answers about tokens.
#[derive(Debug)]
pub struct Places {
    /// The JWKS.
    pub jwks: String,
    /// RFC 7662, for our client's way to prove itself; nothing without `[realm.introspection]`.
    pub introspection: Option<Probed<String>>,
}

impl Probe {
    /// Reads what files there are. `live` tells the time.
    ///
    /// # Errors
    /// If one is unusable.
    pub fn new(settings: IssuerSettings, live: Arc<Live>) -> Result<Self, ClientError> {
        let issuer = Arc::clone(&settings.issuer);
        let nothing = ClientError { issuer, reason: "nothing was prepared".into() };
        let planned = Plan::prepare(vec![settings])?.0.pop().ok_or(nothing)?;
        let Planned { settings, client, credentials, .. } = planned;
        let introspection = settings.introspection.clone();
        let realm = Arc::new(Realm::new(settings, Default::default()));
        let introspector = introspection.zip(credentials.clone()).map(|(settings, proof)| {
            let (realm, live) = (Arc::clone(&realm), Arc::clone(&live));
            Introspector::new(settings, realm, live, proof, Default::default())
        });
        Ok(Self { realm, live, client, introspector, credentials })
    }

    /// Reads the metadata: the issuer is reachable, and is the one that is meant.
    ///
    /// # Errors
    /// Why not.
    pub async fn metadata(&self) -> Probed<Places> {
        let Metadata { jwks, endpoints } = metadata(&self.client, &self.realm.settings).await?;
        self.realm.know(endpoints);
        let introspection = match &self.introspector {
            None => None,
            Some(introspector) => {
                let place = introspector.endpoint().await.map(|endpoint| endpoint.url.into());
                Some(place.map_err(ProbeError::from))
            }
        };
        Ok(Places { jwks: jwks.into(), introspection })
    }

    /// Fetches the keys.
    ///
    /// # Errors
    /// Why not.
    pub async fn keys(&self) -> Probed<Arc<KeySet>> {
        Ok(self.realm.fetch(&self.client, &mut None).await?)
    }

    /// Asks about a token, after [`Self::metadata`].
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn introspect(&self, token: &OwnedToken) -> Probed<Reply> {
        let introspector = self.introspector.as_ref();
        let introspector = introspector.ok_or(FetchError::Metadata("are not asked for it"));
        Ok(introspector.map_err(super::Failure::from)?.try_ask(token).await?)
    }

    /// A token of our own client, by client credentials, if it may have one; after [`Self::metadata`].
    ///
    /// # Errors
    /// Why not. Most clients that introspect need none.
    pub async fn own_token(&self) -> Probed<OwnedToken> {
        let asked = timeout(TIMEOUT, self.ask_for_token()).await;
        Ok(asked.unwrap_or_else(|_| Err(FetchError::Timeout(TIMEOUT).into()))?)
    }

    async fn ask_for_token(&self) -> Result<OwnedToken, super::Failure> {
        let missing = || FetchError::Metadata("lack `token_endpoint`");
        let endpoints = self.realm.endpoint();
        let url = endpoints.as_ref().as_ref().and_then(|found| found.token.clone());
        let url = url.ok_or_else(missing)?;
        let (settings, credentials) =
            (&self.realm.settings, self.credentials.as_ref().ok_or_else(missing)?);
        let client_id = settings.introspection.as_ref().map_or("", |found| &found.client_id);
        let ready = credentials.now().await;
        let (form, header) = {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "client_credentials");
            let now = self.live.now();
            let header = ready.prove(&mut form, client_id, &settings.issuer, now)?;
            (form.finish(), header)
        };
        let mut request = ready
            .client
            .at(&url)
            .post(url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        let answer = request.send().await.map_err(|error| broken(error, TIMEOUT).at(&url))?;
        let status = answer.status();
        let body = whole_body(answer, TIMEOUT).await.map_err(|error| error.at(&url))?;
        if status != 200 {
            return Err(super::introspect::refusal(status, body).at(&url));
        }
        let body = Json::parse(body, JsonLimits::ISSUER)
            .map_err(|error| FetchError::Malformed(error).at(&url))?;
        let token = body.root().get("access_token").and_then(JsonRef::as_str);
        let token = token.ok_or_else(|| FetchError::Metadata("gave no access_token").at(&url))?;
        Ok(RawToken::new(token).to_owned())
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Probe({})", self.realm.settings.issuer)
    }
}
