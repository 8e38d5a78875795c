//! Tokens of Keycloak's shape, all different and all of one length, one a line.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::Outcome;
use crate::key::Key;
use crate::options::Options;

const DAYS: u64 = 30;
const BATCH: u64 = 10_000;

pub(crate) fn mint(options: &Options) -> Outcome {
    let key = Key::of(options)?;
    #[expect(clippy::disallowed_methods, reason = "the clock of this tool, not of the library")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let header = json!({ "alg": options.need("alg")?, "typ": "JWT", "kid": options.need("kid")? });
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    let around = header.len() + 2 + (key.sign(b"any")?.len() * 4).div_ceil(3);
    let payload =
        options.number::<usize>("bytes")?.map(|bytes| bytes.saturating_sub(around) * 3 / 4);
    let claims = claims(options.need("issuer")?, now, payload).to_string();
    let realms = options.number("realms")?.unwrap_or(1);
    let one = |number: u64| -> Outcome<String> {
        let claims = claims.replacen(NUMBER, &format!("{number:012x}"), 1);
        let claims = claims.replacen(REALM, &format!("{:04}", number % realms), 1);
        let payload = URL_SAFE_NO_PAD.encode(claims);
        let message = format!("{header}.{payload}");
        let signature = key.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    };
    let mut out = BufWriter::new(File::create(options.need("out")?)?);
    let threads = thread::available_parallelism()?.get() as u64;
    let count = options.number("count")?.unwrap_or(1);
    for begin in (0..count).step_by(BATCH as usize) {
        let end = count.min(begin + BATCH);
        let lane = |lane: u64| {
            let numbers = (begin..end).filter(|number| number % threads == lane);
            numbers.map(one).collect::<Outcome<Vec<_>>>()
        };
        let lane = &lane;
        let made = thread::scope(|scope| {
            let lanes = (0..threads).map(|number| scope.spawn(move || lane(number)));
            let lanes: Vec<_> = lanes.collect();
            let made = lanes.into_iter().map(|lane| lane.join().map_err(|_| "a thread died")?);
            made.collect::<Outcome<Vec<_>>>()
        })?;
        for token in made.concat() {
            writeln!(out, "{token}")?;
        }
    }
    Ok(out.flush()?)
}

/// Those of `vidimus demo`, as many of them as fit, good for 30 days; made longer by roles.
fn claims(issuer: &str, now: u64, bytes: Option<usize>) -> Value {
    let mut claims = json!({
        "iss": issuer, "aud": "orders-api", "exp": now + DAYS * 24 * 3600, "iat": now,
        "jti": NUMBER, "typ": "Bearer", "sub": "alice",
    });
    let fits = |claims: &Value| bytes.is_none_or(|bytes| claims.to_string().len() <= bytes);
    for (name, value) in [
        ("sub", json!("f1d0ca5e-0000-4000-8000-a11ce0000001")),
        ("jti", json!(format!("onrtac:5c0ffee5-7a11-4bad-9d00-{NUMBER}"))),
        ("azp", json!("orders-web")),
        ("scope", json!("openid orders:read email profile")),
        ("preferred_username", json!("alice")),
        ("email", json!("alice@example.com")),
        (
            "realm_access",
            json!({ "roles": ["offline_access", "uma_authorization", "default-roles-demo"] }),
        ),
        ("sid", json!("5e551000-0000-4000-8000-000000000001")),
        ("email_verified", json!(true)),
        ("acr", json!("1")),
        ("aud", json!(["orders-api", "account"])),
        ("resource_access", json!({ "account": { "roles": ["manage-account", "view-profile"] } })),
        ("allowed-origins", json!(["https://shop.example.com"])),
        ("name", json!("Alice Liddell")),
        ("given_name", json!("Alice")),
        ("family_name", json!("Liddell")),
    ] {
        let before = claims.clone();
        claims[name] = value;
        if !fits(&claims) {
            claims = before;
        }
    }
    let mut roles = Vec::new();
    for (length, count) in [(24, usize::MAX), (1, 24)] {
        for _ in 0..count {
            let before = claims.clone();
            roles.push(format!("{:0length$}", roles.len() % 10));
            claims["resource_access"]["orders-api"]["roles"] = json!(roles);
            if bytes.is_none() || !fits(&claims) {
                claims = before;
                roles.pop();
                break;
            }
        }
    }
    claims
}

/// Stands in `--issuer` where `--realms` have a number.
const REALM: &str = "%%%%";

/// Stands where each token has a number of its own.
const NUMBER: &str = "############";
