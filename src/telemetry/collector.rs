//! A gate's series for the registry of an application.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily};

use super::metrics::Metrics;
use crate::check::Decision;
use crate::gate::{Gate, WeakGate};
use crate::issuer::Issuers;

/// The series of one gate, to register where one likes. Nothing is registered by itself. Clones are one
/// and the same; they do not keep the gate alive, and tell nothing once it has ended.
///
/// One gate takes any number of realms, policies and layers, so most services have one. Several gates in
/// one registry need a name each: [`named`](Self::named).
///
/// Decisions are counted where they are made: give [`observer`](Self::observer) to the layer.
///
/// ```
/// # use vidimus::Gate;
/// # fn register(gate: &Gate) -> Result<(), Box<dyn std::error::Error>> {
/// use vidimus::telemetry::{GateMetrics, prometheus};
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
    descriptions: Vec<Desc>,
    name: Option<LabelPair>,
    gate: WeakGate,
}

impl GateMetrics {
    /// For this gate.
    ///
    /// # Errors
    /// Never in practice: names and labels are fixed.
    pub fn new(gate: &Gate) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::of_gate()?;
        let (descriptions, name) = (metrics.descriptions.clone(), None);
        Ok(Self(Arc::new(Inner { metrics, descriptions, name, gate: gate.downgrade() })))
    }

    /// For this gate, one of several in the same registry: `gate="NAME"` stands in each of its series. A
    /// registry takes gates with a name or one without, not both.
    ///
    /// ```
    /// # use vidimus::Gate;
    /// # fn register(orders: &Gate, billing: &Gate) -> Result<(), Box<dyn std::error::Error>> {
    /// use vidimus::telemetry::{GateMetrics, prometheus};
    ///
    /// let registry = prometheus::Registry::new();
    /// registry.register(Box::new(GateMetrics::named(orders, "orders")?))?;
    /// registry.register(Box::new(GateMetrics::named(billing, "billing")?))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Never in practice: names of series and labels are fixed, and any text may be a label's value.
    pub fn named(gate: &Gate, name: &str) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::of_gate()?;
        let with_name = |plain: &Desc| {
            let labels = HashMap::from([(GATE.to_owned(), name.to_owned())]);
            let Desc { fq_name, help, variable_labels, .. } = plain.clone();
            Desc::new(fq_name, help, variable_labels, labels)
        };
        let descriptions = metrics.descriptions.iter().map(with_name).collect::<Result<_, _>>()?;
        let mut label = LabelPair::default();
        label.set_name(GATE.to_owned());
        label.set_value(name.to_owned());
        let (name, gate) = (Some(label), gate.downgrade());
        Ok(Self(Arc::new(Inner { metrics, descriptions, name, gate })))
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
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(gate) = self.0.gate.upgrade() else { return Vec::new() };
        // Those that the gate was built with, unless its source is another.
        let issuers = gate.companion::<Arc<Issuers>>().map(|issuers| &**issuers);
        let mut families = self.0.metrics.gather(&gate, issuers);
        if let Some(name) = &self.0.name {
            families.iter_mut().flat_map(MetricFamily::mut_metric).for_each(|it| label(it, name));
        }
        families
    }
}

/// Labels stand in the order of their names.
fn label(metric: &mut Metric, with: &LabelPair) {
    let mut labels = metric.take_label();
    labels.push(with.clone());
    labels.sort();
    metric.set_label(labels);
}

/// The label that tells gates apart.
const GATE: &str = "gate";

impl fmt::Debug for GateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateMetrics").finish_non_exhaustive()
    }
}
