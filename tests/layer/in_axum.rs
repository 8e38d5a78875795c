//! Handlers of axum behind the layer.

use super::*;

#[tokio::test]
async fn axums_handlers_take_the_grant_and_say_so_in_the_log_where_the_layer_is_missing() {
    async fn named(grant: Grant) -> String {
        grant.subject().unwrap_or("nobody").to_owned()
    }
    async fn perhaps(grant: Option<Grant>) -> String {
        grant.map_or_else(|| "nobody".to_owned(), |grant| grant.client().unwrap_or("").to_owned())
    }
    let world = World::new().await;
    let app: axum::Router = axum::Router::new()
        .route("/named", get(named))
        .route("/perhaps", get(perhaps))
        .layer(world.layer())
        .route("/open", get(perhaps))
        .route("/forgotten", get(named));
    let (log, _guard) = log();
    let token = world.token(json!({}));
    for (path, token, status, body) in [
        ("/named", Some(&token), 200, "f1d0ca5e-0000-4000-8000-a11ce0000001"),
        ("/perhaps", Some(&token), 200, "orders-web"),
        ("/named", None, 401, "{\"error_description\":\"no access token was sent\"}\n"),
        ("/open", None, 200, "nobody"),
        ("/forgotten", Some(&token), 500, ""),
    ] {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let read = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read, body, "{path}");
    }
    let lines = log();
    let told =
        lines.lines().filter(|line| line.contains("ERROR") && line.contains("no CheckLayer"));
    assert_eq!(told.count(), 1, "{lines}");
    assert!(!lines.contains(&token), "a token stands in the log");
}

#[tokio::test]
async fn a_claim_of_another_type_is_forbidden_in_axums_handlers_and_not_repeated() {
    #[derive(serde::Deserialize)]
    struct Caller {
        department: u32,
    }
    async fn handler(grant: Grant) -> Result<String, ClaimsError> {
        Ok(grant.claims::<Caller>()?.department.to_string())
    }
    let world = World::new().await;
    let app = axum::Router::new().route("/", get(handler)).route_layer(world.layer());
    for (department, status, said) in [
        (json!(7), 200, "7"),
        (json!("secret-lab"), 403, "\"error\":\"access_denied\""),
        (json!(null), 403, "the token lacks a claim that is needed here"),
    ] {
        let token = world.token(json!({ "department": department }));
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{department}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(said) && !body.contains("secret-lab"), "{body}");
    }
}
