use serde_json::Value;

use super::*;

fn parse(text: &str) -> Result<Value, JsonError> {
    let json = Json::parse(text.as_bytes().to_vec(), JsonLimits::TOKEN)?;
    Ok(serde_json::to_value(json.root()).unwrap())
}

#[test]
fn reads_what_serde_json_reads() {
    for text in [
        r#"{"a":[1,-2,3.5,true,null,"x\u0000\ud83d\ude00",[[]],{}],"b\n":{"c":{"d":[]}},"":18446744073709551615}"#,
        "[]",
        " 1 ",
        r#""""#,
        "-0.0",
    ] {
        assert_eq!(parse(text), Ok(serde_json::from_str(text).unwrap()), "{text}");
    }
}

#[test]
fn finds_members_and_elements() {
    let text = r#"{"a":{"x":1,"y":[1,[2,3],"t"]},"b\u0031":"v\"w","c":-1}"#;
    let json = Json::parse(text.as_bytes().to_vec(), JsonLimits::TOKEN).unwrap();
    let root = json.root();
    let list = root.get("a").unwrap().get("y").unwrap();
    assert_eq!(list.items().unwrap().count(), 3);
    assert_eq!(list.items().unwrap().nth(2).unwrap().as_str(), Some("t"));
    assert_eq!(root.get("b1").unwrap().as_str(), Some("v\"w"));
    assert_eq!(root.get("c").unwrap().as_i64(), Some(-1));
    assert!(root.get("x").is_none() && list.get("x").is_none());
    assert_eq!(root.members().unwrap().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b1", "c"]);
    assert_eq!(json.at(list.place()).to_string(), r#"[1,[2,3],"t"]"#);
}

#[test]
fn refuses_a_repeated_member_at_any_level_however_it_is_spelt() {
    let members =
        |count: usize| (0..count).map(|n| format!("\"m{n}\":{n}")).collect::<Vec<_>>().join(",");
    assert!(parse(&format!("{{{}}}", members(2_000))).is_ok());
    for text in [
        r#"{"a":1,"a":1}"#.to_owned(),
        r#"{"o":{"a":1,"b":2,"a":3}}"#.to_owned(),
        r#"[{"a":1,"\u0061":2}]"#.to_owned(),
        r#"{"":1,"":2}"#.to_owned(),
        r#"{"a":{"x":{"y":[1,2]}},"b":[],"a":0}"#.to_owned(),
        format!("{{{},\"m0\":1}}", members(10)),
        format!("{{{},\"m17\":1}}", members(47)),
        format!("{{{},\"m1234\":1}}", members(2_000)),
    ] {
        assert_eq!(parse(&text), Err(JsonError::Duplicate), "{text}");
    }
}

#[test]
fn refuses_what_is_too_deep_or_too_much_before_building_it() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(parse(&nested(16)).is_ok());
    assert_eq!(parse(&nested(17)), Err(JsonError::Depth));
    assert_eq!(parse(&"[".repeat(100_000)), Err(JsonError::Depth));
    let list = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
    assert!(parse(&list(4_096)).is_ok());
    assert_eq!(parse(&list(4_097)), Err(JsonError::Size));
}

#[test]
fn refuses_what_is_not_one_json_document() {
    for text in [
        "",
        "{",
        "{}x",
        "{} {}",
        "{'a':1}",
        "{\"a\":1e999}",
        "\"\\ud800\"",
        "NaN",
        "{\"a\":01}",
        "{1:2}",
        "[1,]",
        "\"\n\"",
        "\u{feff}{}",
    ] {
        assert!(matches!(parse(text), Err(JsonError::Syntax { .. })), "{text}");
    }
    assert!(Json::parse(b"\"\xff\"".to_vec(), JsonLimits::TOKEN).is_err(), "not UTF-8");
}
