//! The `http` tool for documents.

mod address;
mod policy;
mod request;
mod secret;
#[cfg(test)]
mod tests;

use std::{sync::OnceLock, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{self, HeaderMap},
    redirect,
};
use serde_json::{Value, json};

use self::{
    address::{NotPublic, PublicOnly},
    policy::shown_host,
    request::{Input, Plan},
};
use crate::{
    Schema, ToolError, codes,
    tool::{Output, Tool, ToolContext, ToolSpec},
};

pub use self::{
    policy::{HostRule, HttpPolicy},
    secret::Secret,
};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait before the first retry; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Longest wait before a retry, whatever the server asks for.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// The tool `http`: sends a request to one of the allowed hosts and gives the response.
///
/// It connects only to addresses that it has looked at itself, which must be public unless the
/// [`HttpPolicy`] says otherwise; looks again at each redirect (at most 5), where it drops secrets
/// if the host changes, even to another of their hosts; and ignores proxy variables. Everything but GET and HEAD carries the
/// call's idempotency key as `Idempotency-Key`.
///
/// | code of the error | means | retryable |
/// | --- | --- | --- |
/// | `http_refused` | the policy does not allow it | no |
/// | `http_input` | the input makes no request | no |
/// | `http_status` | the response has another status than expected | for 429 and 5xx |
/// | `http_connect` | the host could not be reached | yes |
/// | `http_broken` | the host broke off; what was asked may have been done | yes |
/// | `http_timeout` | it took too long | yes |
/// | `http_body` | the body is too large, or not what it says | no |
#[derive(Debug)]
pub struct HttpTool {
    spec: ToolSpec,
    policy: HttpPolicy,
    /// For hosts that must have public addresses.
    public: OnceLock<Client>,
    /// For hosts that may have private ones.
    private: OnceLock<Client>,
}

impl HttpTool {
    /// A tool that may do what the policy says.
    pub fn new(policy: HttpPolicy) -> Self {
        let spec = ToolSpec::new("http")
            .name("HTTP request")
            .description("Sends an HTTP request to an allowed host and gives the response.")
            .input(Schema::of_ours::<Input>())
            .output(Schema::uncompiled(json!({
                "type": "object",
                "required": ["status", "headers", "body"],
                "properties": {
                    "status": { "type": "integer", "description": "The status, such as 200." },
                    "headers": {
                        "type": "object",
                        "additionalProperties": { "type": "string" },
                        "description": "The headers, with names in lower case."
                    },
                    "body": { "description": "JSON where the response says so, else a text; null when empty." }
                }
            })))
            .effect(true);
        Self { spec, policy, public: OnceLock::new(), private: OnceLock::new() }
    }

    fn client(&self, private: bool) -> Result<&Client, ToolError> {
        let cell = if private { &self.private } else { &self.public };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("dynamic-flow/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy();
        if !private {
            builder = builder.dns_resolver(PublicOnly);
        }
        let client = builder.build().map_err(|_| {
            ToolError::new("TLS can't be set up: are there root certificates on this machine?")
                .code("http_connect")
                .permanent()
        })?;
        Ok(cell.get_or_init(|| client))
    }

    /// Sends the request, follows redirects and reads the response.
    async fn send(&self, plan: &Plan) -> Result<Reply, ToolError> {
        let mut plan = plan.clone();
        for _ in 0..=MAX_REDIRECTS {
            let private = self.policy.check(&plan.url).map_err(refused)?;
            let host = shown_host(&plan.url);
            let mut request = self
                .client(private)?
                .request(plan.method.clone(), plan.url.clone())
                .headers(plan.headers.clone());
            if let Some(body) = &plan.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| unreachable_host(&error, &host))?;
            match redirect_target(&response, &plan)? {
                Some(target) => plan.follow(response.status(), target),
                None => return self.read(response, host).await,
            }
        }
        Err(refused(format!("more than {MAX_REDIRECTS} redirects")))
    }

    async fn read(&self, mut response: Response, host: String) -> Result<Reply, ToolError> {
        let limit = self.policy.max_body;
        let too_large = || body_error(&host, &format!("sent a body of more than {limit} bytes"));
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| unreachable_host(&error, &host))?
        {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Reply { status, headers, body, host })
    }
}

#[async_trait]
impl Tool for HttpTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn execute(&self, input: &Value, context: &ToolContext) -> Result<Output, ToolError> {
        let input = Input::read(input)?;
        let timeout = input.timeout()?;
        let plan = input.plan(&self.policy, &context.idempotency_key)?;
        let mut retries_left = input.retries;
        let mut delay = FIRST_DELAY;
        loop {
            let sent = tokio::time::timeout(timeout, self.send(&plan)).await.unwrap_or_else(|_| {
                let message = format!("{} did not answer in time", shown_host(&plan.url));
                Err(ToolError::new(message).code("http_timeout"))
            });
            let retry_after = match &sent {
                Err(error) if error.code == "http_connect" && error.retryable => Some(delay),
                Ok(reply) if reply.is_worth_a_retry() => {
                    Some(reply.retry_after(jiff::Timestamp::now()).unwrap_or(delay))
                }
                _ => None,
            };
            match retry_after.filter(|_| retries_left > 0) {
                Some(wait) => tokio::time::sleep(wait.min(MAX_DELAY)).await,
                None => return sent?.into_output(&plan).map(Output::Value),
            }
            retries_left -= 1;
            delay *= 2;
        }
    }
}

/// A response whose body has been read.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    host: String,
}

impl Reply {
    fn is_worth_a_retry(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 502 | 503 | 504)
    }

    /// How long the server asks to wait, in seconds or until a date.
    fn retry_after(&self, now: jiff::Timestamp) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
    }

    fn into_output(self, plan: &Plan) -> Result<Value, ToolError> {
        if !plan.expects(self.status) {
            let error = ToolError::new(format!("{} answered {}", self.host, self.status));
            let error = error.code("http_status");
            let passing = self.status.is_server_error() || self.status.as_u16() == 429;
            return Err(if passing { error } else { error.permanent() });
        }
        let body = self.value()?;
        let mut headers = serde_json::Map::new();
        for name in self.headers.keys().filter(|name| **name != header::SET_COOKIE) {
            let values = self.headers.get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
            let values: Vec<_> = values.collect();
            headers.insert(name.as_str().to_owned(), values.join(", ").into());
        }
        Ok(json!({ "status": self.status.as_u16(), "headers": headers, "body": body }))
    }

    fn value(&self) -> Result<Value, ToolError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        let kind = kind.to_ascii_lowercase();
        if kind == "application/json" || kind.ends_with("+json") {
            return serde_json::from_slice(&self.body)
                .map_err(|_| body_error(&self.host, "sent a body that is no JSON"));
        }
        std::str::from_utf8(&self.body)
            .map(Value::from)
            .map_err(|_| body_error(&self.host, "sent a body that is neither JSON nor a text"))
    }
}

/// The URL that a redirect leads to.
fn redirect_target(response: &Response, plan: &Plan) -> Result<Option<Url>, ToolError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
        || plan.expects(response.status())
    {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else {
        return Ok(None);
    };
    let target = location.to_str().ok().and_then(|location| plan.url.join(location).ok());
    target.map(Some).ok_or_else(|| refused("the redirect leads to no URL"))
}

fn refused(message: impl std::fmt::Display) -> ToolError {
    ToolError::new(message).code("http_refused").permanent()
}

fn body_error(host: &str, problem: &str) -> ToolError {
    ToolError::new(format!("{host} {problem}")).code("http_body").permanent()
}

/// Says what went wrong without the client's own text, which has the whole URL in it.
fn unreachable_host(error: &reqwest::Error, host: &str) -> ToolError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<NotPublic>() {
            return refused(format!("{host} leads to no public address"));
        }
        source = cause.source();
    }
    if error.is_connect() {
        ToolError::new(format!("{host} could not be reached")).code("http_connect")
    } else if error.is_builder() {
        ToolError::new("the input makes no request").code(codes::HTTP_INPUT).permanent()
    } else {
        ToolError::new(format!("{host} broke off")).code("http_broken")
    }
}
