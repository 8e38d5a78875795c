//! A private authority, the certificate by which Keycloak answers over https, and those by which
//! clients prove themselves to it (RFC 8705 §2.1).

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// In PEM files: `ca.pem`; and `NAME.pem` with `NAME.key` (PKCS #8) for `server`, for Keycloak's client
/// `vidimus-tls`, and for `stranger`, whom the authority vouches for and Keycloak does not know.
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
        ] {
            let key = KeyPair::generate().expect("a key");
            let mut params = params(name, hosts);
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
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

    /// The authority alone.
    pub(crate) fn trusted(&self) -> RootCertStore {
        let ca = CertificateDer::from_pem_file(self.file("ca.pem")).expect("a certificate");
        let mut trusted = RootCertStore::empty();
        trusted.add(ca).expect("an authority");
        trusted
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("host names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
