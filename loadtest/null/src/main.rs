//! What `loadtest/run` compares with, and what makes its tokens.
//!
//! ```text
//! null http     --listen ADDRESS | --unix PATH  [--verify KEY.der] [--busy NS]
//!                                                                     answers 200, whatever is asked
//! null grpc     --listen ADDRESS | --unix PATH  [--headers]           the same to ext_authz by gRPC
//! null question --token TOKEN --out FILE                              what Envoy asks by gRPC, framed
//! null key      --alg ES384|EdDSA --out FILE                          a new key
//! null jwk      --alg ALG --key FILE --kid KID [--der FILE]           its public half
//! null mint     --alg ALG --key FILE --kid KID --issuer URL --count N --out FILE [--bytes N] [--realms N]
//! ```

mod grpc;
mod http;
mod key;
mod mint;
mod options;
mod question;

use std::process::ExitCode;

use options::Options;

/// What goes wrong is told, and ends it.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let result = Options::read().and_then(|options| match &*options.command {
        "http" => http::serve(&options),
        "grpc" => grpc::serve(&options),
        "question" => question::write(&options),
        "key" => key::make(&options),
        "jwk" => key::publish(&options),
        "mint" => mint::mint(&options),
        other => Err(format!("no command {other:?}").into()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null: {error}");
            ExitCode::FAILURE
        }
    }
}
