//! Holds JSON against a JSON Schema: the keywords that docs/json.schema.json uses, and a panic at any other, so that none is passed
//! over.

use serde_json::{Map, Value};

/// Why a value is not what a schema of `root` asks for, and where; nothing where it is.
pub fn violation(root: &Value, value: &Value) -> Option<String> {
    check(root, root, value, "$").err()
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (keyword, of) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => check(root, referred(root, of), value, at)?,
            "type" => {
                let one = of.as_str().map(|t| vec![t]);
                let types = one.unwrap_or_else(|| {
                    of.as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect()
                });
                if !types.iter().any(|t| is(value, t)) {
                    return Err(format!("{at}: {value} is none of {types:?}"));
                }
            }
            "const" if value != of => return Err(format!("{at}: {value}, expected {of}")),
            "enum" if !of.as_array().unwrap().contains(value) => {
                return Err(format!("{at}: {value} is none of {of}"));
            }
            "const" | "enum" => {}
            "minimum" => {
                if value.as_f64().is_some_and(|v| v < of.as_f64().unwrap()) {
                    return Err(format!("{at}: {value} is less than {of}"));
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, of, item, &format!("{at}[{i}]"))?;
                }
            }
            "oneOf" => {
                let tried = of.as_array().unwrap().iter().map(|s| check(root, s, value, at));
                let (held, failed): (Vec<_>, Vec<_>) = tried.partition(Result::is_ok);
                if held.len() != 1 {
                    return Err(format!("{at}: {} of all hold: {failed:?}", held.len()));
                }
            }
            "properties" => {
                let Some(object) = value.as_object() else { continue };
                for (name, schema) in of.as_object().unwrap() {
                    if let Some(found) = object.get(name) {
                        check(root, schema, found, &format!("{at}.{name}"))?;
                    }
                }
            }
            "required" => {
                let Some(object) = value.as_object() else { continue };
                let missing = |name: &&Value| !object.contains_key(name.as_str().unwrap());
                if let Some(name) = of.as_array().unwrap().iter().find(missing) {
                    return Err(format!("{at}: {name} is missing"));
                }
            }
            "additionalProperties" => {
                assert_eq!(*of, false, "{at}: not known here");
                let Some(object) = value.as_object() else { continue };
                let none = Map::new();
                let known = schema["properties"].as_object().unwrap_or(&none);
                if let Some(name) = object.keys().find(|name| !known.contains_key(*name)) {
                    return Err(format!("{at}: {name:?} is not known"));
                }
            }
            other => panic!("{at}: the keyword {other:?} is not known here"),
        }
    }
    Ok(())
}

/// What `#/$defs/...` points at.
fn referred<'a>(root: &'a Value, pointer: &Value) -> &'a Value {
    let pointer = pointer.as_str().unwrap().strip_prefix('#').expect("in the same file");
    root.pointer(pointer).unwrap_or_else(|| panic!("nothing is at {pointer}"))
}

fn is(value: &Value, of: &str) -> bool {
    match of {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type {other:?} is not known here"),
    }
}
