//! Which method says a key of the file: a fault in typed settings is told with it.

/// `Realm::leeway` for `realm[0].leeway`; nothing for what no one method says.
pub(super) fn method(path: &str) -> Option<String> {
    let (section, rest) = path.split_once('.').unwrap_or((path, ""));
    let rest = rest.split('[').next().unwrap_or(rest); // of a list each item
    let key = rest.rsplit('.').next().unwrap_or(rest);
    let found = match (section.split('[').next().unwrap_or(section), rest) {
        ("realm", "") if section == "realm" => "GateBuilder::realm".into(),
        ("realm", "issuer") => "Realm::new".into(),
        ("realm", "introspection.client_id") => "Introspection::new".into(),
        ("realm", "introspection.client_key_algorithm") => "Introspection::private_key_jwt".into(),
        ("realm", "introspection.client_certificate_file") => {
            "Introspection::tls_client_auth".into()
        }
        ("realm", "introspection.auth" | "introspection.client_key_file") => return None,
        ("realm", _) if rest.starts_with("introspection.") => format!("Introspection::{key}"),
        ("realm", _) if !key.is_empty() => format!("Realm::{key}"),
        ("policy", _) if rest.contains(".headers.") => "Policy::header".into(),
        ("policy", _) if rest.contains(".metadata.") => "Policy::metadata".into(),
        ("policy", _) if rest != key => format!("Policy::{key}"),
        ("token", "sources") => "GateBuilder::token_sources".into(),
        ("token", "max_size") => "GateBuilder::max_token_size".into(),
        ("cache", "max_bytes") => "GateBuilder::cache_bytes".into(),
        ("server", "trusted_proxies") => "GateBuilder::trusted_proxies".into(),
        ("client_certificate", "provider") => "ForwardedCertificate::new".into(),
        ("client_certificate", key) => format!("ForwardedCertificate::{key}"),
        _ => return None,
    };
    Some(found)
}
