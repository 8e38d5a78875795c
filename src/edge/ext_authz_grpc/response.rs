//! `CheckResponse`.

use super::question::Question;
use crate::check::{Decision, Grant, JsonRef, Refusal};
use crate::edge::answer;
use crate::edge::protobuf::Message;

/// The `CheckResponse`: OK with the identity headers, which replace the client's, and what to remove; or
/// denied, with the status, headers and body for the client. It is written behind `before`.
pub fn answer(decision: &Decision, question: &Question<'_>, before: &[u8]) -> Vec<u8> {
    let mut response = begin(before);
    match decision {
        Decision::Allow(grant) => allow(grant, question, &mut response),
        Decision::Deny(refusal) => denied(refusal, &mut response),
    }
    response.0
}

/// The same for a refusal without a question, because that could not be read.
pub fn refuse(refusal: &Refusal, before: &[u8]) -> Vec<u8> {
    let mut response = begin(before);
    denied(refusal, &mut response);
    response.0
}

fn begin(before: &[u8]) -> Message {
    let mut response = Message(Vec::with_capacity(before.len() + USUAL));
    response.0.extend_from_slice(before);
    response
}

/// Six identity headers with their usual values.
const USUAL: usize = 960;

fn allow(grant: &Grant, question: &Question<'_>, response: &mut Message) {
    response.nested(STATUS, |_| {}); // code 0
    response.nested(OK_RESPONSE, |ok| {
        for (name, value) in grant.identity() {
            match value.is_empty() {
                false => header(ok, name.as_str(), value.as_bytes()),
                true => ok.bytes(HEADERS_TO_REMOVE, name.as_str().as_bytes()),
            }
        }
        let forgeries = grant.policy().forgeries();
        let came = question.names().filter(|name| forgeries.includes(name));
        for name in forgeries.names().chain(came) {
            ok.bytes(HEADERS_TO_REMOVE, name.as_bytes());
        }
    });
    if grant.policy().metadata.is_empty() {
        return;
    }
    response.nested(DYNAMIC_METADATA, |metadata| {
        for (name, value) in grant.metadata() {
            member(metadata, name, value);
        }
    });
}

fn denied(refusal: &Refusal, response: &mut Message) {
    let refused = answer::refused(refusal);
    let code = refusal.denial.answer().grpc_code(); // Envoy looks only at whether it is 0
    response.nested(STATUS, |status| status.number(1, code.into()));
    response.nested(DENIED_RESPONSE, |denied| {
        denied.nested(1, |status| status.number(1, refused.status.as_u16().into()));
        for (name, value) in &refused.headers {
            header(denied, name.as_str(), value.as_bytes());
        }
        denied.text(3, &refused.body);
    });
}

// `CheckResponse`, and `OkHttpResponse` and `DeniedHttpResponse` inside it.
const STATUS: u32 = 1;
const DENIED_RESPONSE: u32 = 2;
const OK_RESPONSE: u32 = 3;
const DYNAMIC_METADATA: u32 = 4;
const HEADERS: u32 = 2;
const HEADERS_TO_REMOVE: u32 = 5;

/// `HeaderValueOption`.
fn header(into: &mut Message, name: &str, value: &[u8]) {
    const OVERWRITE_IF_EXISTS_OR_ADD: u64 = 2;
    into.nested(HEADERS, |option| {
        option.nested(1, |header| {
            header.text(1, name);
            header.bytes(2, value);
        });
        option.number(3, OVERWRITE_IF_EXISTS_OR_ADD);
    });
}

/// A member of a `google.protobuf.Struct`.
fn member(into: &mut Message, name: &str, value: JsonRef<'_>) {
    into.nested(1, |entry| {
        entry.text(1, name);
        entry.nested(2, |it| json(it, value));
    });
}

/// Every integer up to here is a double of its own.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// A `google.protobuf.Value`.
fn json(into: &mut Message, value: JsonRef<'_>) {
    if let Some(text) = value.as_str() {
        into.text(3, text);
    } else if let Some(flag) = value.as_bool() {
        into.chosen(4, flag.into());
    } else if let Some(number) = value.as_f64() {
        match number.abs() {
            0.0..=EXACT => into.double(2, number),
            // Two ids would become one. As text they are what the token says.
            _ => into.text(3, &value.to_string()),
        }
    } else if let Some(items) = value.items() {
        into.nested(6, |list| items.for_each(|item| list.nested(1, |it| json(it, item))));
    } else if let Some(members) = value.members() {
        into.nested(5, |object| members.for_each(|(name, value)| member(object, name, value)));
    } else {
        into.chosen(1, 0); // null
    }
}
