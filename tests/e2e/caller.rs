//! Who asks: nginx as the clients of the service do, or the sidecar directly. One request, or load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use reqwest::{Client, Method};
use rustls::RootCertStore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::keycloak::client_builder;

/// Asks at one address. Clones share connections.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client,
    base: String,
    asked: Arc<AtomicU64>,
}

/// What came back. Status 0 means nothing did; the body then says why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Caller {
    /// Asks at `HOST:PORT`.
    pub(crate) fn new(address: &str) -> Self {
        Self::at(format!("http://{address}"), RootCertStore::empty())
    }

    /// Asks there over https, without a certificate of its own.
    pub(crate) fn secure(address: &str, trusted: RootCertStore) -> Self {
        Self::at(format!("https://{address}"), trusted)
    }

    fn at(base: String, trusted: RootCertStore) -> Self {
        let client = client_builder(trusted).timeout(Duration::from_secs(10)).build();
        Self { client: client.expect("an HTTP client"), base, asked: Arc::default() }
    }

    /// Where it asks: `http://HOST:PORT`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// How many requests it and its clones have sent.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// GET, with a bearer token or without.
    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let bearer = token.map(|token| ("authorization", format!("Bearer {token}")));
        let headers: Vec<_> = bearer.iter().map(|(name, value)| (*name, &**value)).collect();
        self.send(Method::GET, path, &headers).await
    }

    /// Any method, with these headers in this order.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok::<_, reqwest::Error>(Answer { status, headers, body: answer.text().await? })
        };
        answer
            .await
            .unwrap_or_else(|error| Answer { body: format!("{error:?}"), ..Answer::default() })
    }
}

impl Answer {
    /// A header's value; all of them if there are several.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        values.join(" AND ")
    }

    /// The identity headers that are not empty, in the form of
    /// [`Arrived::identity`](crate::service::Arrived::identity).
    pub(crate) fn identity(&self) -> Vec<String> {
        let named = self.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("x-auth-request-")?;
            let value = String::from_utf8_lossy(value.as_bytes());
            (!value.is_empty()).then(|| format!("{name}={value}"))
        });
        let mut identity: Vec<String> = named.collect();
        identity.sort();
        identity
    }

    /// Status and body in one line.
    pub(crate) fn page(&self) -> String {
        format!("{} {}", self.status, self.body.trim_end().replace('\n', " / "))
    }

    /// The answer in short: the status, and what the challenge says (`401 invalid_token: ...`; without
    /// an error the whole challenge) or when to come back. A refusal that is not JSON shows as such.
    pub(crate) fn told(&self) -> String {
        let challenge = self.header("www-authenticate");
        let mut text = match (self.status, quoted(&challenge, "error")) {
            (0, _) => format!("no answer: {}", self.body),
            (status, Some(error)) => {
                let rule = quoted(&challenge, "error_description").unwrap_or("no description");
                format!("{status} {error}: {rule}")
            }
            (503, None) => format!("503, Retry-After {}", self.header("retry-after")),
            (status, None) => format!("{status} {challenge}").trim_end().to_owned(),
        };
        if matches!(self.status, 401 | 403 | 503) {
            let json: Option<serde_json::Value> = serde_json::from_str(&self.body).ok();
            let json = json.is_some_and(|json| json["error_description"].is_string());
            if !json || self.header("content-type") != "application/json" {
                text += &format!("; the body is no JSON refusal: {}", self.body);
            }
        }
        text
    }
}

/// The value of a challenge's parameter.
pub(crate) fn quoted<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// Requests that go on and on, in lanes beside each other, until [`Load::end`] or drop.
pub(crate) struct Load {
    lanes: JoinSet<Tally>,
    enough: Arc<AtomicBool>,
}

/// What came back to a lane, or to all lanes of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counts: BTreeMap<u16, u64>,
    /// When an answer had another status than the one before it in its lane, and which two.
    pub(crate) turns: Vec<(Instant, u16, u16)>,
    last: Option<u16>,
    /// An answer of each status.
    pub(crate) samples: BTreeMap<u16, Answer>,
}

impl Load {
    /// Starts: every lane presents these tokens in turn.
    pub(crate) fn start(caller: &Caller, path: &str, tokens: &[String], lanes: usize) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for lane in 0..lanes {
            let (caller, path, tokens) = (caller.clone(), path.to_owned(), tokens.to_owned());
            let enough = Arc::clone(&enough);
            set.spawn(async move {
                let mut tally = Tally::default();
                for token in tokens.iter().cycle().skip(lane) {
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                    tally.add(caller.get(&path, Some(token)).await);
                    sleep(Duration::from_millis(3)).await;
                }
                tally
            });
        }
        Self { lanes: set, enough }
    }

    /// Lets the requests that are under way finish.
    pub(crate) async fn end(mut self) -> Tally {
        self.enough.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        while let Some(lane) = self.lanes.join_next().await {
            let lane = lane.expect("a lane of load ends well");
            lane.counts.iter().for_each(|(status, n)| *all.counts.entry(*status).or_default() += n);
            all.turns.extend(lane.turns);
            all.samples.extend(lane.samples);
        }
        all
    }
}

impl Tally {
    /// Counts an answer.
    pub(crate) fn add(&mut self, answer: Answer) {
        let status = answer.status;
        *self.counts.entry(status).or_default() += 1;
        if let Some(last) = self.last.replace(status).filter(|last| *last != status) {
            self.turns.push((Instant::now(), last, status));
        }
        self.samples.insert(status, answer);
    }

    /// How many answers had this status.
    pub(crate) fn count(&self, status: u16) -> u64 {
        self.counts.get(&status).copied().unwrap_or(0)
    }

    /// All answers.
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether some came, and all with one of these.
    pub(crate) fn only(&self, statuses: &[u16]) -> bool {
        !self.counts.is_empty() && self.counts.keys().all(|status| statuses.contains(status))
    }

    /// `200 x 312, 401 x 9`.
    pub(crate) fn told(&self) -> String {
        let counts: Vec<String> =
            self.counts.iter().map(|(status, count)| format!("{status} x {count}")).collect();
        let unexpected = self.samples.get(&0).map(|answer| format!(" ({})", answer.body));
        counts.join(", ") + &unexpected.unwrap_or_default()
    }
}
