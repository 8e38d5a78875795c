//! Any text as `x-forwarded-client-cert`: read without panic; whatever a client wrote in front of it, the
//! element that Envoy adds at the end decides, or nothing does; and by default there is one alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vidimus::check::Thumbprint;
use vidimus::edge::certificate::{CertificateHeader, Provider};

const OURS: &str = "0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd";

fuzz_target!(|text: &str| {
    let one = CertificateHeader::new(Provider::Envoy);
    let mut last = one.clone();
    last.append_forward = true;
    let alone = last.read(text);
    // After a client's text, in any element: ours or an error, never theirs and never none.
    let ours = Thumbprint::parse("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
    for added in [format!("{text},Hash={OURS}"), format!("{text},By=spiffe://a;Hash={OURS};URI=b")]
    {
        if let Ok(read) = last.read(&added) {
            assert!(read.map(|shown| shown.thumbprint) == ours, "{added:?}");
        }
        assert!(one.read(&added).is_err(), "{added:?}");
    }
    // Before it: the client's text stands alone as it would without.
    let added = last.read(&format!("Hash={OURS},{text}"));
    if let (Ok(alone), Ok(added)) = (&alone, &added) {
        assert!(alone == added, "{text:?}");
    }
    assert!(alone.is_ok() || added.is_err(), "{text:?}");
    // A whole value in quotes means what it means without, if nothing in it needs them.
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let bare = one.read(&format!("Hash={text}"));
        assert!(bare == one.read(&format!("Hash=\"{text}\"")), "{text:?}");
    }
});
