//! What `check-config` says of a good file.

use super::Config;
use crate::check::{AudienceRule, BindingRule, ClaimPath, Policy, UseFor};
use crate::edge::certificate::Provider;
use crate::issuer::IssuerSettings;

impl Config {
    /// What was understood, a line for each realm and policy, and what is easily overlooked.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (rules, issuer) in self.rules.realms.iter().zip(&self.issuers) {
            let audience = match &rules.audience {
                AudienceRule::OneOf(names) => names.join(" or "),
                AudienceRule::InsecureAny => "ANY (insecure_any_audience)".into(),
            };
            let by = issuer
                .fetch_base
                .as_ref()
                .map_or(String::new(), |base| format!(", asked at {base}"));
            lines.push(format!(
                "realm {}: issuer {}, audience {audience}{by}",
                rules.name, rules.issuer
            ));
            if let Some(introspection) = &rules.introspection {
                let UseFor { opaque, lightweight, all } = introspection.use_for;
                let which = match (all, opaque, lightweight) {
                    (true, ..) => "every token",
                    (_, true, true) => "opaque and lightweight tokens",
                    (_, true, false) => "opaque tokens",
                    _ => "lightweight tokens",
                };
                lines.push(format!(
                    "realm {}: asked about {which}, as client {}",
                    rules.name, introspection.client_id
                ));
            }
        }
        lines.extend(self.certificates());
        lines.extend(self.envoy_certificates());
        for policy in &self.rules.policies {
            let realms = self.rules.realms.iter().enumerate();
            let realms = realms.filter(|(place, _)| policy.accepts_realm(*place));
            let realms: Vec<_> = realms.map(|(_, rules)| &*rules.name).collect();
            let mut line = format!("policy {}: realms {}", policy.name(), realms.join(", "));
            if let Some(audience) = &policy.audience {
                line += &format!("; audience {}", audience.join(" or "));
            }
            if !policy.scopes.is_empty() {
                line += &format!("; scopes {}", policy.scopes.join(" and "));
            }
            let roles: Vec<_> = policy.roles.iter().map(ToString::to_string).collect();
            if !roles.is_empty() {
                line += &format!("; {}", roles.join(" or "));
            }
            line += match policy.binding {
                BindingRule::IfBound => "",
                BindingRule::Required => "; bound tokens only",
                BindingRule::Mtls => "; certificate-bound tokens only",
                BindingRule::Dpop => "; DPoP-bound tokens only",
            };
            if let Some(realm) = policy.introspect_realm
                && realms.len() > 1
            {
                line += &format!("; opaque tokens: realm {}", self.rules.realms[realm].name);
            }
            lines.push(line);
            let jwt = |(place, issuer): (usize, &IssuerSettings)| {
                let given = issuer.introspection.as_ref().is_none_or(|i| i.prefer_jwt);
                policy.accepts_realm(place) && !given
            };
            if policy.wants_jwt() && self.issuers.iter().enumerate().any(jwt) {
                lines.push(format!(
                    "note: policy {} hands on the full JWT, and a realm of it has no prefer_jwt: for its \
                     opaque and lightweight tokens there is none",
                    policy.name()
                ));
            }
            if let Some(note) = self.nobody_passes(policy) {
                lines
                    .push(format!("warning: policy {} refuses every token: {note}", policy.name()));
            }
            let tells_issuer =
                policy.headers.iter().any(|(_, claim)| *claim == ClaimPath::new("iss"));
            if realms.len() > 1 && !tells_issuer {
                lines.push(format!(
                    "note: policy {} accepts several realms and no header tells which: two of their \
                     users may look alike (add \"X-Auth-Request-Issuer\" = \"iss\", or set realms)",
                    policy.name()
                ));
            }
        }
        if !self.rules.policies.iter().any(|policy| policy.name() == "default") {
            lines
                .push("note: there is no policy \"default\", so /auth is answered with 403".into());
        }
        lines
    }

    fn certificates(&self) -> Option<String> {
        let header = self.edge.certificate.as_ref()?;
        let rules = header.rules.as_ref().map_or("", |_| ", examined here too");
        let last = if header.append_forward { ", of several elements the last" } else { "" };
        Some(format!(
            "client certificates: of provider {}, in the header {}{last}{rules}",
            header.provider, header.name
        ))
    }

    fn envoy_certificates(&self) -> Option<String> {
        let header = self.edge.certificate.as_ref()?;
        (header.provider == Provider::Envoy && header.rules.is_some()).then(|| {
            "note: Envoy must send the whole certificate (set_current_client_cert_details: \
             { cert: true }): without it every bound token is refused"
                .into()
        })
    }

    fn nobody_passes(&self, policy: &Policy) -> Option<&'static str> {
        match (policy.binding, &self.edge.certificate) {
            (BindingRule::Dpop, _) => Some("DPoP proofs cannot be checked yet"),
            (BindingRule::Mtls | BindingRule::Required, None) => Some(
                "it wants them bound to a client certificate, and without [client_certificate] \
                 there is none",
            ),
            (BindingRule::Mtls | BindingRule::Required, Some(_))
                if self.edge.trusted.0.is_empty() =>
            {
                Some("it wants them bound to a client certificate, and trusted_proxies is empty")
            }
            _ => None,
        }
    }
}
