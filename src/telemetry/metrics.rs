//! Every series, in one place. Labels come from the configuration and from the denial table; nothing
//! that a client or a token says ever becomes one.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::decisions::{Decisions, LABELS};
use crate::check::Decision;
use crate::gate::Gate;
use crate::issuer::{IntrospectionStats, Issuers};

/// Every series, in a registry of their own.
pub struct Metrics {
    registry: Registry,
    pub(super) descriptions: Vec<Desc>,
    decisions: Decisions,
    check_seconds: Histogram,
    /// Connections open now.
    pub connections_open: IntGauge,
    /// Connections accepted.
    pub connections: IntCounter,
    /// Reloads of the configuration, by whether they worked.
    pub reloads: IntCounterVec,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    cache_refusal_hits: IntCounter,
    cache_entries: IntGauge,
    cache_bytes: IntGauge,
    jwks_keys: IntGaugeVec,
    jwks_age: GaugeVec,
    jwks_refreshes: IntCounterVec,
    introspections: IntCounterVec,
    introspections_in_flight: IntGaugeVec,
    introspection_breaker_open: IntGaugeVec,
    introspection_verified_inactive: IntCounterVec,
    introspection_unusable: IntCounterVec,
    introspection_cache_hits: IntCounter,
    /// One scrape at a time: some series are brought up to date by it.
    scraping: Mutex<()>,
}

impl Metrics {
    /// Registers every series.
    ///
    /// # Errors
    /// Never in practice: names and labels are fixed, and a test builds it.
    pub fn new() -> Result<Self, prometheus::Error> {
        Self::registered(true)
    }

    /// Those of a gate alone: without connections and reloads, which are a sidecar's.
    pub(super) fn of_gate() -> Result<Self, prometheus::Error> {
        Self::registered(false)
    }

    fn registered(sidecar: bool) -> Result<Self, prometheus::Error> {
        let keep = Keep { registry: Registry::new(), descriptions: RefCell::default() };
        let build_info: IntGaugeVec = keep.add(IntGaugeVec::new(
            Opts::new("vidimus_build_info", "Always 1; the version stands in the label."),
            &["version"],
        ))?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            decisions: Decisions::new(keep.add(IntCounterVec::new(
                Opts::new("vidimus_decisions_total", "Requests judged."),
                &LABELS,
            ))?),
            check_seconds: keep.add(Histogram::with_opts(
                HistogramOpts::new("vidimus_check_seconds", "Time from question to decision.")
                    .buckets(BUCKETS.to_vec()),
            ))?,
            connections_open: keep.add_if(
                sidecar,
                IntGauge::new("vidimus_connections_open", "Connections open now."),
            )?,
            connections: keep.add_if(
                sidecar,
                IntCounter::new("vidimus_connections_total", "Connections accepted."),
            )?,
            reloads: keep.add_if(
                sidecar,
                IntCounterVec::new(
                    Opts::new("vidimus_reloads_total", "Reloads of the configuration."),
                    &["outcome"],
                ),
            )?,
            cache_hits: keep
                .add(IntCounter::new("vidimus_token_cache_hits", "Proofs found in the cache."))?,
            cache_misses: keep
                .add(IntCounter::new("vidimus_token_cache_misses", "Proofs not in the cache."))?,
            cache_refusal_hits: keep.add(IntCounter::new(
                "vidimus_token_cache_refusal_hits",
                "Bad signatures remembered.",
            ))?,
            cache_entries: keep
                .add(IntGauge::new("vidimus_token_cache_entries", "Proofs held."))?,
            cache_bytes: keep
                .add(IntGauge::new("vidimus_token_cache_bytes", "About what they take."))?,
            jwks_keys: keep.add(IntGaugeVec::new(
                Opts::new("vidimus_jwks_keys", "Usable signing keys."),
                &["realm"],
            ))?,
            jwks_age: keep.add(GaugeVec::new(
                Opts::new("vidimus_jwks_age_seconds", "Since the keys were last fetched."),
                &["realm"],
            ))?,
            jwks_refreshes: keep.add(IntCounterVec::new(
                Opts::new("vidimus_jwks_refresh_total", "Fetches of keys, by how they ended."),
                &["realm", "outcome"],
            ))?,
            introspections: keep.add(IntCounterVec::new(
                Opts::new("vidimus_introspection_total", "Questions to realms, by how they ended."),
                &["realm", "outcome"],
            ))?,
            introspections_in_flight: keep.add(IntGaugeVec::new(
                Opts::new("vidimus_introspection_in_flight", "Calls that wait for an answer."),
                &["realm"],
            ))?,
            introspection_breaker_open: keep.add(IntGaugeVec::new(
                Opts::new("vidimus_introspection_breaker_open", "1 while no calls are made."),
                &["realm"],
            ))?,
            introspection_verified_inactive: keep.add(IntCounterVec::new(
                Opts::new(
                    "vidimus_introspection_verified_inactive_total",
                    "Tokens that verify and are called not active.",
                ),
                &["realm"],
            ))?,
            introspection_unusable: keep.add(IntCounterVec::new(
                Opts::new(
                    "vidimus_introspection_unusable_total",
                    "Answers that came well and could not be used.",
                ),
                &["realm", "reason"],
            ))?,
            introspection_cache_hits: keep
                .add(IntCounter::new("vidimus_introspection_cache_hits", "Answers used again."))?,
            registry: keep.registry,
            descriptions: keep.descriptions.into_inner(),
            scraping: Mutex::new(()),
        })
    }

    /// Counts a decision.
    pub fn decided(&self, edge: &'static str, decision: &Decision, took: Duration) {
        self.decisions.count(edge, decision);
        self.check_seconds.observe(took.as_secs_f64());
    }

    /// All series in Prometheus' text format, version 0.0.4.
    pub fn render(&self, gate: &Gate, issuers: &Issuers) -> Vec<u8> {
        let mut text = Vec::new();
        let families = self.gather(gate, Some(issuers));
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!("cannot write metrics: {error}");
        }
        text
    }

    /// All series, brought up to date.
    pub(super) fn gather(&self, gate: &Gate, issuers: Option<&Issuers>) -> Vec<MetricFamily> {
        let _one_at_a_time = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = gate.cache_stats();
        catch_up(&self.cache_hits, cache.hits);
        catch_up(&self.cache_misses, cache.misses);
        catch_up(&self.cache_refusal_hits, cache.refusal_hits);
        catch_up(&self.introspection_cache_hits, cache.answer_hits);
        self.cache_entries.set(i64::try_from(cache.entries).unwrap_or(i64::MAX));
        self.cache_bytes.set(i64::try_from(cache.bytes).unwrap_or(i64::MAX));
        self.jwks_keys.reset(); // realms may have gone
        self.jwks_age.reset();
        let (snapshot, now) = (gate.live().load(), gate.live().now());
        for realm in snapshot.realms().iter() {
            let name: &[&str] = &[&realm.rules().name];
            let keys = realm.keys(now).map_or(0, |keys| keys.keys().len());
            self.jwks_keys.with_label_values(name).set(i64::try_from(keys).unwrap_or(i64::MAX));
            if let Some(fetched) = realm.fetched() {
                let age: Gauge = self.jwks_age.with_label_values(name);
                age.set(now.since(fetched).as_secs_f64());
            }
        }
        self.jwks_refreshes.reset();
        for (realm, outcomes) in issuers.map(Issuers::outcomes).unwrap_or_default() {
            for (outcome, count) in outcomes {
                self.jwks_refreshes.with_label_values(&[&*realm, outcome]).inc_by(count);
            }
        }
        let introspections = issuers.map(Issuers::introspections).unwrap_or_default();
        let seconds = self.introspections(gate, &introspections);
        let mut families = self.registry.gather();
        families.extend(seconds);
        families
    }
}

impl Metrics {
    /// Brings introspection up to date, and gives its histogram, which lives where the calls are made.
    fn introspections(
        &self,
        gate: &Gate,
        realms: &[(Arc<str>, IntrospectionStats)],
    ) -> Option<MetricFamily> {
        self.introspections.reset();
        self.introspections_in_flight.reset();
        self.introspection_breaker_open.reset();
        self.introspection_verified_inactive.reset();
        self.introspection_unusable.reset();
        for (realm, stats) in realms {
            let name: &[&str] = &[realm];
            for (outcome, count) in &stats.outcomes {
                self.introspections.with_label_values(&[&**realm, outcome]).inc_by(*count);
            }
            let in_flight = i64::try_from(stats.in_flight).unwrap_or(i64::MAX);
            self.introspections_in_flight.with_label_values(name).set(in_flight);
            let open = i64::from(stats.breaker_open);
            self.introspection_breaker_open.with_label_values(name).set(open);
        }
        for (realm, count) in gate.verified_inactive() {
            self.introspection_verified_inactive.with_label_values(&[&*realm]).inc_by(count);
        }
        for (realm, reason, count) in gate.unusable_answers() {
            self.introspection_unusable.with_label_values(&[&*realm, reason]).inc_by(count);
        }
        let mut family = MetricFamily::default();
        family.set_name("vidimus_introspection_seconds".into());
        family.set_help("How long calls took, waiting for their turn not included.".into());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(realms.iter().map(|(realm, stats)| histogram(realm, stats)).collect());
        (!realms.is_empty()).then_some(family)
    }
}

fn histogram(realm: &str, stats: &IntrospectionStats) -> Metric {
    let mut label = LabelPair::default();
    label.set_name("realm".into());
    label.set_value(realm.to_owned());
    let bucket = |(bound, count): &(f64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(*count);
        bucket
    };
    let mut histogram = prometheus::proto::Histogram::default();
    histogram.set_bucket(stats.seconds.iter().map(bucket).collect());
    histogram.set_sample_count(stats.calls);
    histogram.set_sample_sum(stats.seconds_sum);
    let mut metric = Metric::from_label(vec![label]);
    metric.set_histogram(histogram);
    metric
}

/// Seconds: a cached check takes about 1 µs, a signature 20 to 600 µs, a wait for keys up to 5 s.
const BUCKETS: [f64; 15] =
    [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2, 1e-1, 5e-1, 1.0, 5.0];

fn catch_up(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

struct Keep {
    registry: Registry,
    descriptions: RefCell<Vec<Desc>>,
}

impl Keep {
    fn add<C: Collector + Clone + 'static>(
        &self,
        collector: Result<C, prometheus::Error>,
    ) -> Result<C, prometheus::Error> {
        self.add_if(true, collector)
    }

    fn add_if<C: Collector + Clone + 'static>(
        &self,
        wanted: bool,
        collector: Result<C, prometheus::Error>,
    ) -> Result<C, prometheus::Error> {
        let collector = collector?;
        if wanted {
            self.descriptions.borrow_mut().extend(collector.desc().into_iter().cloned());
            self.registry.register(Box::new(collector.clone()))?;
        }
        Ok(collector)
    }
}
