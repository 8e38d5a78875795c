//! A gate's series for the registry of an application.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::metrics::Metrics;
use crate::check::Decision;
use crate::gate::{Gate, WeakGate};
use crate::issuer::Issuers;

/// The series of one gate, to register where one likes. Nothing is registered by itself. Clones are one
/// and the same; they do not keep the gate alive, and tell nothing once it has ended.
///
/// Decisions are counted where they are made: give [`observer`](Self::observer) to the layer. For several
/// gates take a registry each, with a label that tells them apart: `Registry::new_custom`.
///
/// ```
/// # use vidimus::Gate;
/// # fn register(gate: &Gate) -> Result<(), Box<dyn std::error::Error>> {
/// use vidimus::telemetry::GateMetrics;
///
/// let metrics = GateMetrics::new(gate)?;
/// prometheus::default_registry().register(Box::new(metrics.clone()))?;
/// # #[cfg(feature = "tower")]
/// let layer = vidimus::CheckLayer::new(gate, "default")?.observe(metrics.observer("default"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GateMetrics(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    gate: WeakGate,
}

impl GateMetrics {
    /// For this gate.
    ///
    /// # Errors
    /// Never in practice: names and labels are fixed.
    pub fn new(gate: &Gate) -> Result<Self, prometheus::Error> {
        Ok(Self(Arc::new(Inner { metrics: Metrics::of_gate()?, gate: gate.downgrade() })))
    }

    /// Counts decisions under `vidimus_decisions_total` and `vidimus_check_seconds`. `edge` is the label
    /// that tells layers apart.
    pub fn observer(
        &self,
        edge: &'static str,
    ) -> impl Fn(&Decision, Duration) + Clone + Send + Sync + 'static {
        let own = self.clone();
        move |decision, took| own.0.metrics.decided(edge, decision, took)
    }
}

impl Collector for GateMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.0.metrics.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(gate) = self.0.gate.upgrade() else { return Vec::new() };
        // Those that the gate was built with, unless its source is another.
        let issuers = gate.companion::<Arc<Issuers>>().map(|issuers| &**issuers);
        self.0.metrics.gather(&gate, issuers)
    }
}

impl fmt::Debug for GateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateMetrics").finish_non_exhaustive()
    }
}
