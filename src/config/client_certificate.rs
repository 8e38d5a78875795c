//! `[client_certificate]`.

use http::HeaderName;

use super::policy::is_reserved;
use super::reader::{At, Errors, Section};
use crate::edge::certificate::{CertificateHeader, Provider, is_alias};
use crate::edge::credential::Source;
use crate::edge::x509::{CertificateRules, KeyPurpose, KeyUsage};

/// Reads it; nothing without it.
pub(super) fn read(
    top: &mut Section<'_>,
    sources: &[Source],
    errors: &mut Errors,
) -> Option<CertificateHeader> {
    let given = top.has("client_certificate");
    let mut section = top.section("client_certificate", errors);
    let names: Vec<_> = Provider::ALL.iter().map(|provider| provider.name()).collect();
    let names = names.join(", ");
    let place = section.here("provider");
    let provider = section.text("provider", errors);
    if given && provider.is_none() && !errors.iter().any(|error| error.path == place.path) {
        errors.push(place.error("nothing", format!("who forwards the certificate: {names}")));
    }
    let place = provider.as_ref().map_or(place, At::place);
    let provider = provider.and_then(|at| at.parse::<Provider>(&names, errors));
    let name = section.text("header", errors);
    let name = name.and_then(|at| {
        let parsed = at.parse::<HeaderName>("the name of a header", errors)?;
        if is_reserved(parsed.as_str()) {
            errors
                .push(at.error(format_args!("{:?}", at.value), "a header that is not HTTP's own"));
        }
        Some(parsed)
    });
    let append = section.here("append_forward");
    let append_forward = section.flag("append_forward", errors);
    let rules = rules(&mut section, errors);
    section.end(errors);
    let header = CertificateHeader { rules, append_forward, ..CertificateHeader::new(provider?) };
    if append_forward && header.provider != Provider::Envoy {
        errors.push(append.error("true", "with the provider \"envoy\" alone"));
    }
    if header.provider == Provider::Thumbprint && header.rules.is_some() {
        let whole = Provider::ALL.iter().filter(|provider| **provider != header.provider);
        let whole: Vec<_> = whole.map(|provider| provider.name()).collect();
        let allowed = format!(
            "{}: ca_file, check_validity and require_* need the whole certificate",
            whole.join(", ")
        );
        errors.push(place.error("\"thumbprint\"", allowed));
    }
    let header = match name {
        Some(name) => CertificateHeader { name, ..header },
        None => header,
    };
    let same = |source: &Source| matches!(source, Source::Header(name) if is_alias(name.as_str(), &header.name));
    if sources.iter().any(same) {
        let found = format!("the header {}, where a token may stand (token.sources)", header.name);
        errors.push(place.error(found, "another header"));
    }
    Some(header)
}

/// The second line: nothing if none of its keys is there.
fn rules(section: &mut Section<'_>, errors: &mut Errors) -> Option<CertificateRules> {
    let ca_file = section.text("ca_file", errors);
    let usages = KeyUsage::NAMES.join(", ");
    let usages = section.items::<KeyUsage>("require_key_usage", &usages, errors);
    let purposes = KeyPurpose::NAMES.map(|[name, _]| name).join(", ") + ", or an object identifier";
    let purposes = section.items::<KeyPurpose>("require_extended_key_usage", &purposes, errors);
    let period = section.flag("check_validity", errors);
    if ca_file.is_none() && usages.is_none() && purposes.is_none() && !period {
        return None;
    }
    let rules = CertificateRules::new()
        .for_usages(usages.unwrap_or_default(), purposes.unwrap_or_default());
    let Some(file) = ca_file else { return Some(rules) };
    let pem = crate::issuer::read_ca_file(file.value.as_ref());
    match pem.and_then(|pem| rules.issued_by(&pem)) {
        Ok(rules) => Some(rules),
        Err(reason) => {
            let allowed = "a file of PEM certificates, of those who issue your clients' certificates, \
                           that this user may read";
            errors.push(file.error(reason, allowed));
            None
        }
    }
}
