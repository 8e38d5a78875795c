//! A Keycloak from before the audience rule, where it answers otherwise: it calls more tokens active,
//! and refuses clients with other error codes.

use tokio::time::timeout;

use crate::keycloak::{BEFORE_AUDIENCE_RULE, Keycloak};
use crate::scene::Scene;
use crate::table::Table;
use crate::{LIMIT, credentials, doctor, inactive, introspection, lifecycle};

#[tokio::test(flavor = "multi_thread")]
async fn a_keycloak_without_the_audience_rule_is_asked_too() {
    let table = Table::new();
    // Half of it may go by while another test has its Keycloak.
    if timeout(LIMIT * 2, scenario(&table)).await.is_err() {
        table.judged("the whole scenario", "ends in time", "still runs", false);
    }
    table.finish();
}

async fn scenario(table: &Table) {
    table.area(&format!("Keycloak {BEFORE_AUDIENCE_RULE} starts"));
    let keycloak = Keycloak::start(BEFORE_AUDIENCE_RULE).await;
    let folder = tempfile::tempdir().expect("a scratch folder");
    let scene = Scene { keycloak: &keycloak, folder: folder.path(), table };
    table.area("which tokens it is asked about");
    introspection::who_passes(&scene).await;
    table.area("no audience rule");
    inactive::audience(&scene, false).await;
    table.area("the full token beside the claims");
    introspection::full_jwt(&scene).await;
    table.area("doctor and inspect");
    doctor::findings(&scene, false).await;
    table.area("our own credentials");
    credentials::ways(&scene).await;
    credentials::wrong(&scene).await;
    table.area("afterwards");
    lifecycle::logs(&keycloak, folder.path(), table);
}
