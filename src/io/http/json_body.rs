//! JSON request bodies, parsed as the type that also describes them in the `OpenAPI` document.

use axum::extract::{FromRequest, Request};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::ConnectionInfo;
use super::body::{BodyError, read_body};

/// A request body of at most `MAX_BYTES`: a JSON object with the fields of `T`.
pub(in crate::io) struct JsonBody<T, const MAX_BYTES: usize>(pub(in crate::io) T);

impl<S: Sync, T: DeserializeOwned, const MAX_BYTES: usize> FromRequest<S> for JsonBody<T, MAX_BYTES> {
    type Rejection = BodyError;

    async fn from_request(request: Request, _: &S) -> Result<Self, BodyError> {
        let (parts, body) = request.into_parts();
        let client: Option<&ConnectionInfo> = parts.extensions.get();
        let client = client.unwrap_or_else(|| unreachable!("each request must have the information of its connection"));
        let body = read_body(&parts.headers, body, MAX_BYTES, &client.permit).await?;
        parse(&body).map(Self)
    }
}

/// Parses a JSON object. Text that is not JSON is distinguished from JSON without the fields of `T`.
pub(in crate::io) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    // serde would also accept an array of the fields' values.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let mut json = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize(&mut json) {
        _ if !is_object => "The body must be a JSON object".to_owned(),
        Ok(parsed) if json.end().is_ok() => return Ok(parsed),
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(_) => Err(BodyError::InvalidField(error)),
        Err(error) => Err(BodyError::InvalidJson(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        value: f32,
        room: Option<String>,
    }

    fn error_text(body: &str) -> String {
        parse::<Sample>(body.as_bytes()).expect_err("an error").to_string()
    }

    #[test]
    fn errors_name_the_field_or_its_position() {
        let sample = Sample { value: 0.7, room: None };
        assert_eq!(parse(br#"{"value":0.7}"#), Ok(sample));
        assert_eq!(parse(br#" {"room":null,"value":1}"#), Ok(Sample { value: 1.0, room: None }));
        assert_eq!(error_text("[1,null]"), "The body must be a JSON object");
        assert_eq!(error_text("{}"), "missing field `value` at line 1 column 2");
        assert_eq!(
            error_text(r#"{"value":1,"rom":1}"#),
            "rom: unknown field `rom`, expected `value` or `room` at line 1 column 16"
        );
        assert_eq!(
            error_text(r#"{"value":"1"}"#),
            "value: invalid type: string \"1\", expected f32 at line 1 column 12"
        );
        for body in ["", "{", "nonsense", r#"{"value":NaN}"#, r#"{"rom":.5}"#, "{}{}", &"[".repeat(200)] {
            assert!(matches!(parse::<Sample>(body.as_bytes()), Err(BodyError::InvalidJson(_))), "{body}");
        }
        let deep = format!(r#"{{"value":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for body in ["[]", r#"[1,"x"]"#, "1", "null", r#""text""#, r#"{"value":1e999}"#, &deep] {
            assert!(matches!(parse::<Sample>(body.as_bytes()), Err(BodyError::InvalidField(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_parsed_or_rejected(text in r#"[\[\]{}":,0-9eE.\-a-f\PC]{0,40}"#, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for body in [text.as_bytes(), &bytes] {
                let _ = parse::<Sample>(body);
            }
        }
    }
}
