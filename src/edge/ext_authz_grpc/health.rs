//! `grpc.health.v1.Health/Check`: whether there is any use in asking.

use crate::edge::protobuf::{Fields, Malformed, Message};

/// Which service a `HealthCheckRequest` is about; all of them if it names none.
///
/// # Errors
/// If it is no such message.
pub fn asked(message: &[u8]) -> Result<&str, Malformed> {
    let mut service = "";
    for field in Fields(message) {
        if let (1, name) = field? {
            service = name.text()?;
        }
    }
    Ok(service)
}

/// A `HealthCheckResponse`.
pub fn answer(serving: bool) -> Vec<u8> {
    const SERVING: u64 = 1;
    const NOT_SERVING: u64 = 2;
    let mut answer = Message::default();
    answer.number(1, if serving { SERVING } else { NOT_SERVING });
    answer.0
}
