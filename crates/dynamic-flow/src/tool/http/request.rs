//! What a document asks for, and the request that is made of it.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;
use reqwest::{
    Method, StatusCode, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Number, Value};

use super::{HttpPolicy, refused};
use crate::{ToolError, codes};

/// Longest time that an attempt may take.
const MAX_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);
/// Most retries.
const MAX_RETRIES: u32 = 5;
/// Headers that are about the connection, which is not the document's.
const RESERVED: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
];
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What to send where.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "HTTP request")]
pub(super) struct Input {
    /// GET when left out.
    #[serde(default)]
    method: Verb,
    /// An http or https URL of an allowed host.
    url: String,
    /// Headers; a value may be a secret of the process that runs the flow.
    #[serde(default)]
    headers: BTreeMap<String, Header>,
    /// Parameters that are added to the URL.
    #[serde(default)]
    query: BTreeMap<String, Parameter>,
    /// A text is sent as it is, everything else as JSON; null for none.
    #[serde(default)]
    body: Value,
    /// How long an attempt may take, at most 5m; 30s when left out.
    #[serde(default = "thirty_seconds")]
    timeout: String,
    /// How often to try again when the host can't be reached or answers 429, 502, 503 or 504.
    #[serde(default)]
    #[schemars(range(max = 5))]
    pub(super) retries: u32,
    /// The statuses that are no errors; 200 to 299 when left out.
    #[serde(default)]
    #[schemars(inner(range(min = 100, max = 599)))]
    expect_status: Vec<u16>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// The value of a header.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
enum Header {
    Text(String),
    Secret {
        /// The name of a secret in the configuration of the process that runs the flow, which may
        /// bind it to hosts.
        secret: String,
        /// What to put before it, such as `Bearer `.
        #[serde(default)]
        prefix: String,
    },
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Parameter {
    Text(String),
    Number(Number),
    Bool(bool),
}

fn thirty_seconds() -> String {
    "30s".to_owned()
}

fn invalid(message: impl std::fmt::Display) -> ToolError {
    ToolError::new(message).code(codes::HTTP_INPUT).permanent()
}

impl Input {
    pub(super) fn read(input: &Value) -> Result<Self, ToolError> {
        let input: Self =
            Self::deserialize(input).map_err(|_| invalid("the input makes no request"))?;
        if input.retries > MAX_RETRIES {
            return Err(invalid(format!("retries is more than {MAX_RETRIES}")));
        }
        Ok(input)
    }

    pub(super) fn timeout(&self) -> Result<Duration, ToolError> {
        let timeout: Option<SignedDuration> = self.timeout.parse().ok();
        timeout
            .filter(|timeout| timeout.is_positive() && *timeout <= MAX_TIMEOUT)
            .and_then(|timeout| Duration::try_from(timeout).ok())
            .ok_or_else(|| invalid("timeout is no duration of at most 5m, such as 30s"))
    }

    /// Makes the request. The policy is asked for secrets here, and for the host here and at each
    /// hop.
    pub(super) fn plan(&self, policy: &HttpPolicy, key: &str) -> Result<Plan, ToolError> {
        let mut url = Url::parse(&self.url).map_err(|_| invalid("url is no URL"))?;
        for (name, value) in &self.query {
            let value = match value {
                Parameter::Text(text) => text.clone(),
                Parameter::Number(number) => number.to_string(),
                Parameter::Bool(bool) => bool.to_string(),
            };
            url.query_pairs_mut().append_pair(name, &value);
        }
        // Of a host that is not allowed, that is told before what its secrets are.
        policy.check(&url).map_err(refused)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let (name, value) = self.header(name, value, &url, policy)?;
            headers.insert(name, value);
        }
        let method = match self.method {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        };
        if !method.is_safe() && !headers.contains_key(IDEMPOTENCY_KEY) {
            let key =
                HeaderValue::from_str(key).or_else(|_| HeaderValue::from_bytes(key.as_bytes()));
            headers
                .insert(IDEMPOTENCY_KEY, key.map_err(|_| invalid("the step's id fits no header"))?);
        }
        let (kind, body) = match &self.body {
            Value::Null => (None, None),
            Value::String(text) => {
                (Some("text/plain; charset=utf-8"), Some(text.clone().into_bytes()))
            }
            json => (Some("application/json"), Some(json.to_string().into_bytes())),
        };
        if let Some(kind) = kind {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
        }
        Ok(Plan { method, url, headers, body, expected: self.expect_status.clone() })
    }

    fn header(
        &self,
        name: &str,
        value: &Header,
        url: &Url,
        policy: &HttpPolicy,
    ) -> Result<(HeaderName, HeaderValue), ToolError> {
        let known: HeaderName =
            name.parse().map_err(|_| invalid(format!("{name:?} is no name of a header")))?;
        if RESERVED.contains(&known) {
            return Err(invalid(format!("the header {known} can't be set")));
        }
        let secret = matches!(value, Header::Secret { .. });
        let value = match value {
            Header::Text(text) => HeaderValue::from_str(text),
            Header::Secret { secret, prefix } => {
                let value = policy.secret(secret, url).map_err(refused)?;
                HeaderValue::from_str(&format!("{prefix}{value}"))
            }
        };
        let mut value = value
            .map_err(|_| invalid(format!("the value of the header {known} is no plain text")))?;
        let private = secret || known == header::AUTHORIZATION || known == header::COOKIE;
        value.set_sensitive(private);
        Ok((known, value))
    }
}

/// A request that is ready to be sent.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Those that must not reach another host are marked as sensitive.
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
    expected: Vec<u16>,
}

impl Plan {
    pub(super) fn expects(&self, status: StatusCode) -> bool {
        if self.expected.is_empty() {
            return status.is_success();
        }
        self.expected.contains(&status.as_u16())
    }

    /// Turns to where a redirect leads, without what is meant for the first host only.
    pub(super) fn follow(&mut self, status: StatusCode, target: Url) {
        let becomes_get = match status.as_u16() {
            303 => self.method != Method::HEAD,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = None;
            self.headers.remove(header::CONTENT_TYPE);
            self.headers.remove(IDEMPOTENCY_KEY);
        }
        if target.origin() != self.url.origin() {
            let private = self.headers.iter().filter(|(_, value)| value.is_sensitive());
            let private: Vec<_> = private.map(|(name, _)| name.clone()).collect();
            for name in private {
                self.headers.remove(name);
            }
        }
        self.url = target;
    }
}
