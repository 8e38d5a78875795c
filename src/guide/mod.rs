//! Guides. Every piece of code in them is compiled and run by the tests.
//!
//! | | |
//! | --- | --- |
//! | [`axum_service`] | an axum service: policies by route, CORS, readiness, the grant in handlers, calling on, certificates, metrics |
//! | [`tonic_service`] | a tonic service, refusals as gRPC knows them, and what stays open |
//! | [`elsewhere`] | hyper alone, actix, and whatever is no tower service |
//! | [`testing_your_service`] | tokens of every kind in the tests of your service |
//! | [`configuration`] | every key of the file, with its default and the reason; `builder` has a method for each |
//! | [`known_attacks`] | what attackers try, where it is stopped, and the test that proves it |
//! | [`defaults`] | every default, with its reason |

#[doc = include_str!("axum_service.md")]
pub mod axum_service {}

#[doc = include_str!("tonic_service.md")]
pub mod tonic_service {}

#[doc = include_str!("elsewhere.md")]
pub mod elsewhere {}

#[doc = include_str!("testing_your_service.md")]
pub mod testing_your_service {}

#[doc = include_str!("configuration.md")]
#[doc = concat!("```toml\n", include_str!("../../deploy/vidimus.toml"), "\n```")]
pub mod configuration {}

#[doc = include_str!("known_attacks.md")]
pub mod known_attacks {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}
