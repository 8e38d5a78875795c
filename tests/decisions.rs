//! Decisions are counted under their own labels, however many there are and whatever they were before.

#![allow(clippy::unwrap_used, reason = "a test says what broke")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use support::*;
use vidimus::check::*;
use vidimus::telemetry::GateMetrics;
use vidimus::telemetry::prometheus::core::Collector as _;

#[tokio::test]
async fn every_decision_is_counted_under_its_own_labels() {
    let world = World::new();
    let mut rules = two_realms();
    // So many that some share a place where they are remembered.
    let names: Vec<String> = (0..700).map(|number| format!("p{number}")).collect();
    rules.policies.extend(names.iter().map(|name| Policy::new(name, vec![0, 1])));
    let metrics = GateMetrics::new(&world.gate).unwrap();
    let (http, grpc) = (metrics.observer("http"), metrics.observer("grpc"));
    let shop = world.token(json!({}));
    let staff = world.other.sign(&claims(json!({ "iss": OTHER_ISSUER }))).unwrap();
    let mut expected: HashMap<[String; 4], f64> = HashMap::new();
    for round in 0..4 {
        world.live.replace_rules(rules.clone()).unwrap(); // other objects, the same names
        for (place, name) in names.iter().enumerate() {
            for (realm, token) in [("shop", &shop), ("staff", &staff), ("", &"opaque".to_owned())] {
                let facts = Facts::new(name, Ok(RawToken::new(token)));
                let decision = world.gate.check(&facts).await;
                let reason = if realm.is_empty() { "token_opaque" } else { "ok" };
                for (edge, times) in [("http", 2), ("grpc", 1 + (place + round) % 3)] {
                    for _ in 0..times {
                        match edge {
                            "http" => http(&decision, Duration::ZERO),
                            _ => grpc(&decision, Duration::ZERO),
                        }
                    }
                    let labels = [edge, name, realm, reason].map(str::to_owned);
                    *expected.entry(labels).or_default() += times as f64;
                }
            }
        }
    }
    let families = metrics.collect();
    let family = families.iter().find(|family| family.name() == "vidimus_decisions_total").unwrap();
    let counted = family.get_metric().iter().map(|metric| {
        let label = |name| {
            let found = metric.get_label().iter().find(|label| label.name() == name);
            found.unwrap().value().to_owned()
        };
        (["edge", "policy", "realm", "reason"].map(label), metric.get_counter().get_value())
    });
    assert_eq!(counted.collect::<HashMap<_, _>>(), expected);
}
