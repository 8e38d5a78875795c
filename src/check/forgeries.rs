//! Under which header names a client could forge an identity.

use http::{HeaderName, HeaderValue};

use super::Policy;

/// Names that have to go from a request which a policy lets pass. What *any* policy of the configuration
/// hands on is ours, for the service behind it believes it, whichever policy has judged. So it has to go
/// unless this policy sets it, and with it whatever a service may take for it.
#[derive(Clone, Debug)]
pub struct Forgeries {
    /// What any policy hands on: this one's first.
    handed: Box<[HeaderName]>,
    /// So many of them are this policy's.
    own: usize,
    /// Whether one of them is of the family [`FAMILY`].
    family: bool,
    names: Box<[Box<str>]>,
    list: HeaderValue,
}

/// Services that know oauth2-proxy look for more headers of this family than we set.
const FAMILY: &str = "x-auth-request-";

impl Forgeries {
    /// Of a policy among all; `handed` is what those hand on.
    pub(super) fn new(policy: &Policy, handed: &[HeaderName]) -> Self {
        let mut all: Vec<HeaderName> = policy.handed().cloned().collect();
        let own = all.len();
        all.extend(handed.iter().filter(|name| !policy.handed().any(|own| own == *name)).cloned());

        // Many read `X_User` as `X-User`.
        let underscored = all.iter().map(|name| name.as_str().replace('-', "_"));
        let others = all[own..].iter().map(|name| name.as_str().to_owned());
        let mut names: Vec<Box<str>> = Vec::new();
        for name in others.chain(underscored).map(String::into_boxed_str) {
            if !names.contains(&name) && !policy.handed().any(|own| *own.as_str() == *name) {
                names.push(name);
            }
        }
        #[expect(clippy::expect_used, reason = "header names and commas are fit for a header")]
        let list = HeaderValue::try_from(names.join(",")).expect("names and commas");
        let family = all.iter().any(|name| name.as_str().starts_with(FAMILY));
        Self { handed: all.into(), own, family, names: names.into(), list }
    }

    /// What has to go whatever came, for those who cannot see the client's headers: what the other policies
    /// hand on; and of all, this one's too, the spelling with underscores, in which an edge that overwrites
    /// `X-User` lets `X_User` pass.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// The same names, divided by commas; empty if there are none.
    pub fn list(&self) -> &HeaderValue {
        &self.list
    }

    /// Whether a header of this name that a client sent has to go: if every sign but letters and digits is
    /// read as `-`, as CGI and its like do, it is one that a policy hands on, and not by its own name one
    /// that this policy sets; or it is one more of the family `X-Auth-Request-`.
    pub fn includes(&self, name: &str) -> bool {
        let in_family = || name.get(..FAMILY.len()).is_some_and(|start| alike(start, FAMILY));
        let looks_alike = || self.handed.iter().any(|handed| alike(name, handed.as_str()));
        let own = || self.handed[..self.own].iter().any(|own| same(name, own.as_str()));
        ((self.family && in_family()) || looks_alike()) && !own()
    }
}

fn same(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

fn alike(name: &str, other: &str) -> bool {
    let plain =
        |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.bytes().map(plain).eq(other.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::super::ClaimPath;
    use super::*;

    fn policy(name: &str, headers: &[&'static str], jwt: Option<&'static str>) -> Policy {
        let mut policy = Policy::new(name, vec![0]);
        let header = |name: &&'static str| (HeaderName::from_static(name), ClaimPath::new("sub"));
        policy.headers = headers.iter().map(header).collect();
        policy.forward_jwt = jwt.map(HeaderName::from_static);
        policy
    }

    #[test]
    fn what_another_policy_hands_on_has_to_go_in_every_spelling() {
        let mut policies = [
            policy("read", &["x-reader"], None),
            policy("admin", &["x-admin", "x-reader"], Some("x-jwt")),
        ];
        Policy::introduce(&mut policies);
        let [read, admin] = policies.each_ref().map(Policy::forgeries);
        for name in ["x-admin", "X-Admin", "x_admin", "X.ADMIN", "x-jwt", "X_Jwt", "x_reader"] {
            assert!(read.includes(name), "{name}");
        }
        for name in ["x-reader", "X-Reader", "x-other", "xadmin", "x-admin-", "", "ü", "x-jwü"] {
            assert!(!read.includes(name), "{name}");
        }
        assert!(!admin.includes("x-reader") && !admin.includes("x-admin"), "it sets both");
        assert!(admin.includes("x_reader") && admin.includes("x_admin") && admin.includes("x~jwt"));
        assert_eq!(read.list(), "x-admin,x-jwt,x_reader,x_admin,x_jwt");
        assert_eq!(read.names().collect::<Vec<_>>().join(","), *read.list());
        assert_eq!(admin.list(), "x_admin,x_reader,x_jwt");
    }

    #[test]
    fn what_a_policy_sets_itself_is_never_taken_away() {
        let mut policies = [policy("a", &["x_user", "user"], None), policy("b", &["x-user"], None)];
        Policy::introduce(&mut policies);
        let [a, b] = policies.each_ref().map(Policy::forgeries);
        assert_eq!(a.list(), "x-user");
        assert!(a.includes("x-user") && !a.includes("X_User"));
        assert_eq!(b.list(), "x_user,user");
        assert!(b.includes("x_user") && !b.includes("X-User"));
    }

    #[test]
    fn a_policy_alone_knows_its_own_and_one_of_the_family_the_whole_family() {
        let usual = Policy::new("default", vec![0]);
        for name in ["x-auth-request-groups", "X_Auth_Request_User", "x~auth~request~email"] {
            assert!(usual.forgeries().includes(name), "{name}");
        }
        assert!(!usual.forgeries().includes("X-Auth-Request-User"));
        let alone = policy("alone", &["user"], None);
        assert_eq!(alone.forgeries().list(), "");
        assert!(!alone.forgeries().includes("x-auth-request-groups"));
    }
}
