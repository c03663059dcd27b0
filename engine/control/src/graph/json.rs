//! The text of a body -> one JSON value, in which every member has one meaning: a member that is there twice is refused,
//! since readers of JSON differ about which one counts (RFC 8259 section 4).

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Number, Value};

use super::errors::{Refusal, shorten};

/// Deepest nesting of objects and arrays; the deepest member that is read stands in the sixth.
const MAX_DEPTH: usize = 64;

/// Reads a text. Strict JSON is tried first; then comments and trailing commas are forgiven.
pub(super) fn parse(text: &str) -> Result<Value, Refusal> {
    strict(text)
        .or_else(|fault| {
            let Fault::Syntax(reason) = &fault else { return Err(fault) };
            let mut lenient = text.to_owned();
            if json_strip_comments::strip(&mut lenient).is_err() {
                return Err(Fault::Syntax(reason.clone()));
            }
            strict(&lenient)
        })
        .map_err(|fault| match fault {
            Fault::Syntax(reason) => Refusal::invalid(format!("The body cannot be read as JSON: {reason}.")),
            Fault::Twice(path) => {
                Refusal::invalid(format!("'{}' is there twice; expected once.", shorten(&path)))
            }
            Fault::Deep(path) => Refusal::invalid(format!(
                "'{}' is nested too deeply; expected at most {MAX_DEPTH} levels.",
                shorten(&path)
            )),
        })
}

/// Why a text is not taken.
#[derive(Clone, Debug)]
enum Fault {
    Syntax(String),
    Twice(String),
    Deep(String),
}

fn strict(text: &str) -> Result<Value, Fault> {
    let fault = RefCell::new(None);
    let mut json = Deserializer::from_str(text);
    let place = Place { above: None, step: Step::Root, depth: 0, fault: &fault };
    let value = place.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|reason| fault.take().unwrap_or_else(|| Fault::Syntax(reason.to_string())))
}

/// Where in the text the reader is: a chain up to the root, on the stack.
#[derive(Clone, Copy)]
struct Place<'a> {
    above: Option<&'a Self>,
    step: Step<'a>,
    depth: usize,
    fault: &'a RefCell<Option<Fault>>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Member(&'a str),
    Element(usize),
}

impl<'a> Place<'a> {
    fn below<'b>(&'b self, step: Step<'b>) -> Place<'b>
    where
        'a: 'b,
    {
        Place { above: Some(self), step, depth: self.depth + 1, fault: self.fault }
    }

    /// `customPrompt.mediaInfo.uri`, `mediaConfig.preFetchMedia[1]`: as [`super::shapes::Object`] names them.
    fn path(&self) -> String {
        let mut path = self.above.map(Place::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Member(name) if path.is_empty() => name.clone_into(&mut path),
            Step::Member(name) => path.extend([".", name]),
            Step::Element(index) => path += &format!("[{index}]"),
        }
        path
    }

    fn refuse<E: Error>(&self, fault: fn(String) -> Fault) -> E {
        self.fault.replace(Some(fault(self.path())));
        E::custom("refused")
    }

    fn enter<E: Error>(&self) -> Result<(), E> {
        if self.depth < MAX_DEPTH { Ok(()) } else { Err(self.refuse(Fault::Deep)) }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut list = Vec::new();
        while let Some(element) = from.next_element_seed(self.below(Step::Element(list.len())))? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut map = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            let member = self.below(Step::Member(&name));
            if map.contains_key(&name) {
                return Err(member.refuse(Fault::Twice));
            }
            let value = from.next_value_seed(member)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_member_that_is_there_twice_is_named_wherever_it_is() {
        let told: String = [
            r#"{"a":1,"a":1}"#,
            r#"{"customPrompt":{"mediaInfo":{"uri":"x","resourceId":null,"uri":"y",},},}"#,
            r#"{"mediaConfig":{"preFetchMedia":[{},{"uri":1,/* again */"uri":2}]}}"#,
            r#"[[0,{"\u0061":1,"a":2}]]"#,
            r#"{"":1,"":2}"#,
        ]
        .iter()
        .map(|text| parse(text).unwrap_err().message + "\n")
        .collect();
        expect![[r#"
            'a' is there twice; expected once.
            'customPrompt.mediaInfo.uri' is there twice; expected once.
            'mediaConfig.preFetchMedia[1].uri' is there twice; expected once.
            '[0][1].a' is there twice; expected once.
            '' is there twice; expected once.
        "#]]
        .assert_eq(&told);
        // Letter case makes another member of it.
        assert!(parse(r#"{"uri":1,"Uri":2}"#).is_ok());
    }

    #[test]
    fn nesting_is_bounded_and_said_to_be() {
        let nested =
            |open: &str, close: &str, depth| format!("{}0{}", open.repeat(depth), close.repeat(depth));
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(parse(&nested(open, close, MAX_DEPTH)).is_ok());
            let refusal = parse(&nested(open, close, MAX_DEPTH + 1)).unwrap_err();
            assert!(refusal.message.contains("nested too deeply"), "{}", refusal.message);
            assert!(parse(&open.repeat(100_000)).is_err());
        }
    }

    #[test]
    fn what_is_no_json_is_told_where() {
        let told: String = [
            "{",
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            "{\"a\":\"b\0c\"}",
            "{\"a\0\":1}",
            "\0{}",
            r#"{"a":"b}"#,
            r#"{"a":01}"#,
            r#"{"a":NaN}"#,
            r#"{'a':1}"#,
            "{} {}",
        ]
        .iter()
        .map(|text| parse(text).unwrap_err().message + "\n")
        .collect();
        expect![[r#"
            The body cannot be read as JSON: EOF while parsing an object at line 1 column 1.
            The body cannot be read as JSON: number out of range at line 1 column 10.
            The body cannot be read as JSON: unexpected end of hex escape at line 1 column 13.
            The body cannot be read as JSON: lone leading surrogate in hex escape at line 1 column 12.
            The body cannot be read as JSON: control character (\u0000-\u001F) found while parsing a string at line 1 column 8.
            The body cannot be read as JSON: control character (\u0000-\u001F) found while parsing a string at line 1 column 4.
            The body cannot be read as JSON: expected value at line 1 column 1.
            The body cannot be read as JSON: EOF while parsing a string at line 1 column 8.
            The body cannot be read as JSON: invalid number at line 1 column 7.
            The body cannot be read as JSON: expected value at line 1 column 6.
            The body cannot be read as JSON: key must be a string at line 1 column 2.
            The body cannot be read as JSON: trailing characters at line 1 column 4.
        "#]].assert_eq(&told);
    }

    proptest! {
        #[test]
        fn a_text_without_duplicates_is_read_as_others_read_it(text in r#"(\{|\}|\[|\]|"a"|"b"|:|,|1|-2\.5|null|true| ){0,24}"#) {
            let ours = strict(&text);
            let theirs: Result<Value, _> = serde_json::from_str(&text);
            match (ours, theirs) {
                (Ok(ours), theirs) => prop_assert_eq!(Some(ours), theirs.ok()),
                (Err(Fault::Syntax(ours)), theirs) => prop_assert_eq!(ours, theirs.unwrap_err().to_string()),
                (Err(_), _) => {}
            }
        }
    }
}
