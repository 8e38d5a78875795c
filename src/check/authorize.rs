//! On every request, cached or not: does this proof open this door, now?

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::introspection::wants_introspection;
use super::{
    AudienceRule, Bound, Claims, ClaimsError, ClientCertificate, Denial, JsonRef, OwnedToken,
    Policy, RawToken, RealmRules, Realms, Role, Thumbprint, TokenForm, UnixTime, Verified,
};

/// Permission for one request. Made only by [`authorize()`].
#[derive(Clone, Debug)]
pub struct Grant {
    verified: Arc<Verified>,
    policy: Arc<Policy>,
    realm: Arc<RealmRules>,
    /// The token itself, where it is the full JWT that the policy wants.
    presented: Option<OwnedToken>,
    bound: Bound,
}

impl Grant {
    /// `sub`: who the caller is. Keycloak leaves it out of lightweight tokens.
    pub fn subject(&self) -> Option<&str> {
        self.claim_set().text("sub")
    }

    /// `iss`: the realm that says so.
    pub fn issuer(&self) -> &str {
        self.claim_set().issuer()
    }

    /// The client that the token was issued to: `azp` as Keycloak has it, else `client_id` (RFC 9068
    /// §2.2).
    pub fn client(&self) -> Option<&str> {
        self.claim_set().text("azp").or_else(|| self.claim_set().text("client_id"))
    }

    /// `scope`, one by one.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.claim_set().scopes()
    }

    /// Roles in the realm: `realm_access.roles`.
    pub fn realm_roles(&self) -> impl Iterator<Item = &str> {
        self.claim_set().realm_roles()
    }

    /// Roles at a client: `resource_access[CLIENT].roles`.
    pub fn client_roles(&self, client: &str) -> impl Iterator<Item = &str> {
        self.claim_set().client_roles(client)
    }

    /// Whether the caller has a role, in the spelling of policies: `realm:NAME`, `CLIENT:NAME`, or `NAME`
    /// alone for a role of the first audience, the policy's or else the realm's.
    ///
    /// ```
    /// # fn may(grant: &vidimus::Grant) -> bool {
    /// grant.has_role("realm:admin") || grant.has_role("orders-api:manager")
    /// # }
    /// ```
    pub fn has_role(&self, role: &str) -> bool {
        let of_realm = match &self.realm.audience {
            AudienceRule::OneOf(names) => names.first(),
            AudienceRule::InsecureAny => None,
        };
        let own = self.policy.audience.as_ref().and_then(|names| names.first()).or(of_realm);
        Role::parse(role, own.map(|name| &**name)).is_ok_and(|role| role.held(self.claim_set()))
    }

    /// `exp`: when the token ends.
    pub fn expires(&self) -> UnixTime {
        self.claim_set().expires()
    }

    /// All claims as a type of one's own. Claims that it does not name are left out; what it borrows
    /// lives as long as the grant.
    ///
    /// ```
    /// # use vidimus::check::{ClaimsError, Grant};
    /// #[derive(serde::Deserialize)]
    /// struct Staff {
    ///     department: String,
    ///     email: Option<String>,
    /// }
    /// # fn read(grant: &Grant) -> Result<(), ClaimsError> {
    /// let Staff { department, email } = grant.claims::<Staff>()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the claims are not of that type. The text says what the type wants, and holds no value.
    pub fn claims<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ClaimsError> {
        self.claim_set().read_as()
    }

    /// The claims one by one: those of the token, or what its realm said about it.
    pub fn claim_set(&self) -> &Claims {
        self.verified.claims()
    }

    /// The certificate that the token is bound to, which the caller has proven to hold.
    pub fn certificate(&self) -> Option<Thumbprint> {
        self.bound.certificate()
    }

    /// Under which policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Tells the grant which token it was given for: if the policy wants the full JWT, and introspection
    /// gave no other, this may be it.
    #[must_use]
    pub fn for_token(mut self, token: RawToken<'_>) -> Self {
        // Once its realm has been asked, the token may promise more than was judged.
        let full = !self.introspected() && self.claim_set().form() != TokenForm::Lightweight;
        if self.policy.wants_jwt() && token.is_jws() && full {
            self.presented = Some(token.to_owned());
        }
        self
    }

    /// The full JWT, to call another service with, if the policy keeps it (`keep_jwt`, `forward_jwt`) and
    /// there is one: the one that introspection gave (`prefer_jwt`), or the token itself if its realm was not
    /// asked. [`RawToken::expose`] gives its text.
    pub fn jwt(&self) -> Option<RawToken<'_>> {
        let kept = || self.verified.jwt().or(self.presented.as_ref()).map(OwnedToken::as_raw);
        self.policy.wants_jwt().then(kept).flatten()
    }

    /// Whether the claims are what the realm said about the token, rather than what stands in it.
    pub fn introspected(&self) -> bool {
        self.verified.introspected()
    }

    /// From which realm.
    pub fn realm(&self) -> &Arc<RealmRules> {
        &self.realm
    }

    /// Every identity header of the policy with its value, safe as a header value whatever the claim
    /// holds; and the full JWT, where the policy forwards it. Empty where there is none: it must be sent
    /// all the same, so that the edge overwrites what the client sent under that name.
    pub fn identity(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        let values = self.verified.identity(&self.policy.headers);
        let names = self.policy.headers.names().enumerate();
        let claims = names.map(move |(place, name)| (name, values[place].clone()));
        claims.chain(self.forwarded_jwt())
    }

    fn forwarded_jwt(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        let jwt = || self.jwt().and_then(|jwt| HeaderValue::from_str(jwt.expose()).ok());
        let jwt = move || jwt().unwrap_or(HeaderValue::from_static(""));
        self.policy.forward_jwt.iter().map(move |name| (name, jwt()))
    }

    /// [`identity`](Self::identity) as the headers of an answer to an edge, which nobody may keep
    /// (`Cache-Control: no-store`).
    pub fn answer_headers(&self) -> HeaderMap {
        let list = &self.policy.headers;
        let mut answer = list.answer(&self.verified.identity(list));
        for (name, jwt) in self.forwarded_jwt() {
            answer.insert(name, jwt);
        }
        answer
    }
}

impl Grant {
    /// The claims of the policy's `metadata` that the token has, as they are.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, JsonRef<'_>)> {
        let all = self.policy.metadata.iter();
        all.filter_map(|(name, path)| Some((&**name, path.find(self.claim_set())?)))
    }
}

/// Judges a proof against a policy at this moment. Reads like the contract's list, top to bottom.
///
/// # Errors
/// The first rule that does not hold. [`Denial::IntrospectionUnavailable`] means that the realm must be
/// asked about the token first: `introspected()` then gives the proof to judge.
pub fn authorize(
    verified: &Arc<Verified>,
    policy: &Arc<Policy>,
    realms: &Realms,
    certificate: &dyn ClientCertificate,
    now: UnixTime,
) -> Result<Grant, Denial> {
    let claims = verified.claims();

    // 3. The issuer is a realm of the policy (by name too: places change with the configuration).
    let realm =
        realms.get(verified.realm()).filter(|realm| *realm.rules().issuer == *claims.issuer());
    let realm = realm.filter(|_| policy.accepts_realm(verified.realm())).ok_or(Denial::Issuer)?;

    // 8. The key that signed it is still published, and that is known recently enough.
    if let Some(key) = verified.key() {
        let keys = realm.keys(now).ok_or(Denial::KeysUnavailable)?;
        if !keys.contains(key) {
            return Err(Denial::KeyUnknown);
        }
    }

    // 4. Not expired, not from the future.
    realm.rules().check_times(claims, now)?;

    // 7. Its key, if it is bound to one, is the caller's.
    let bound = claims.confirmation.prove(claims.kind, policy.binding, certificate, now)?;

    // What the token does not say itself, or may no longer be true, its realm has been asked for.
    if !verified.introspected() && wants_introspection(realm.rules(), policy, claims) {
        return Err(Denial::IntrospectionUnavailable);
    }

    // 6. Meant for us, and with the rights.
    if !realm.rules().audience.accepts(claims) {
        return Err(Denial::Audience);
    }
    policy.check_rights(claims)?;

    let (verified, policy) = (Arc::clone(verified), Arc::clone(policy));
    let realm = Arc::clone(realm.rules());
    Ok(Grant { verified, policy, realm, presented: None, bound })
}
