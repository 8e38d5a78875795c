//! A private authority, the certificate by which Keycloak and the edges answer over https, and those by
//! which clients prove themselves to Keycloak (RFC 8705 §2.1) or bind tokens to themselves (§3).

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// In PEM files: `ca.pem`; and `NAME.pem` with `NAME.key` (PKCS #8) for `server`, for Keycloak's client
/// `vidimus-tls`, for `stranger`, whom the authority vouches for and Keycloak does not know, for
/// `partner`, whose tokens are bound to it, for `thief`, who steals them, and for `self-signed`, whom
/// nobody vouches for.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    /// Makes all of them anew.
    pub(crate) fn make(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the folder of certificates");
        let key = KeyPair::generate().expect("a key");
        let mut ca = params("the tests' authority", &[]);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let own = ca.self_signed(&key).expect("a certificate");
        fs::write(folder.join("ca.pem"), own.pem()).expect("a scratch file");

        let authority = Issuer::new(ca, key);
        for (name, hosts, usage) in [
            ("server", &["127.0.0.1", "localhost"][..], ExtendedKeyUsagePurpose::ServerAuth),
            ("vidimus-tls", &[], ExtendedKeyUsagePurpose::ClientAuth),
            ("stranger", &[], ExtendedKeyUsagePurpose::ClientAuth),
            ("partner", &[], ExtendedKeyUsagePurpose::ClientAuth),
            ("thief", &[], ExtendedKeyUsagePurpose::ClientAuth),
            ("pretender", &[], ExtendedKeyUsagePurpose::ClientAuth),
            ("self-signed", &[], ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let key = KeyPair::generate().expect("a key");
            let mut params = params(name, hosts);
            params.extended_key_usages = vec![usage];
            if name == "pretender" {
                // Envoy, told to, writes such names into its header as they are.
                let partner = CertificateDer::from_pem_file(folder.join("partner.pem"));
                let partner = digest(&SHA256, &partner.expect("a certificate"));
                let partner: String = partner.as_ref().iter().map(|b| format!("{b:02x}")).collect();
                let uri = format!("spiffe://a,Hash={partner}").try_into().expect("ASCII");
                params.subject_alt_names.push(SanType::URI(uri));
            }
            let certificate = match name {
                "self-signed" => params.self_signed(&key),
                _ => params.signed_by(&key, &authority),
            };
            let certificate = certificate.expect("a certificate");
            for (end, pem) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
                fs::write(folder.join(format!("{name}.{end}")), pem).expect("a scratch file");
            }
        }
        Self(folder.to_owned())
    }

    /// Where one of the files is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// One of the certificates, in PEM.
    pub(crate) fn pem(&self, name: &str) -> String {
        fs::read_to_string(self.file(&format!("{name}.pem"))).expect("a certificate")
    }

    /// The same, its bytes alone.
    pub(crate) fn der(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem(name).as_bytes()).expect("a certificate")
    }

    /// How a client of ours does TLS, with one of the certificates or none.
    pub(crate) fn client(&self, name: Option<&str>) -> ClientConfig {
        let provider = rustls::crypto::ring::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(self.trusted());
        let Some(name) = name else { return config.with_no_client_auth() };
        let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).expect("a key");
        config.with_client_auth_cert(vec![self.der(name)], key).expect("they belong together")
    }

    /// The authority alone.
    pub(crate) fn trusted(&self) -> RootCertStore {
        let mut trusted = RootCertStore::empty();
        trusted.add(self.der("ca")).expect("an authority");
        trusted
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("host names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
