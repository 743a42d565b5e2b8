use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A server on this machine that keeps what it is sent and gives canned answers in turn, the last
/// one again and again.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answers[turn.min(answers.len() - 1)].clone();
                turn += 1;
                tokio::spawn(serve(stream, answer, seen.clone()));
            }
        });
        Self { port, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The only request, in lower case.
    fn request(&self) -> String {
        let requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests[0].to_lowercase()
    }
}

async fn serve(stream: TcpStream, answer: String, seen: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let start = request.len();
        if stream.read_line(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let line = request[start..].to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    request.push_str(&String::from_utf8(body).unwrap());
    seen.lock().unwrap().push(request);
    if answer == "silence" {
        std::future::pending::<()>().await;
    }
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn ok() -> String {
    answer("200 OK", "content-type: application/json\r\n", r#"{"a":1}"#)
}

fn policy(allowed: impl serde::Serialize) -> HttpPolicy {
    let policy =
        json!({ "allowed_hosts": allowed, "secrets": { "KEY": "s3cret" }, "max_body": 1000 });
    serde_json::from_value(policy).unwrap()
}

fn private(server: &Server) -> Value {
    json!({ "host": format!("127.0.0.1:{}", server.port), "private": true })
}

async fn call(policy: HttpPolicy, input: Value) -> Result<Value, ToolError> {
    let tool = HttpTool::new(policy);
    if let Err(violations) = tool.spec().input.validate(&input) {
        panic!("{violations:?}");
    }
    match tool.execute(&input, &ToolContext::detached()).await? {
        Output::Value(output) => {
            tool.spec().output.validate(&output).unwrap();
            Ok(output)
        }
        Output::Suspend(_) => unreachable!("http never suspends"),
    }
}

/// Calls with an input whose URL is the server's, which the policy allows.
async fn call_at(server: &Server, mut input: Value) -> Result<Value, ToolError> {
    input["url"] = server.url(input["url"].as_str().unwrap_or("/")).into();
    call(policy(json!([private(server)])), input).await
}

#[track_caller]
fn assert_error(result: Result<Value, ToolError>, code: &str, retryable: bool, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), (code, retryable), "{error}");
    assert!(error.message.contains(message), "{error}");
}

#[tokio::test]
async fn a_get_sends_query_and_headers_and_reads_json() {
    let server = Server::start(vec![ok()]).await;
    let output = call_at(
        &server,
        json!({
            "url": "/x?a=1", "query": { "b": "ä &", "c": 2, "d": true },
            "headers": { "X-One": "1", "Authorization": { "secret": "KEY", "prefix": "Bearer " } },
        }),
    );
    let output = output.await.unwrap();
    assert_eq!(output["status"], 200);
    assert_eq!(output["body"], json!({ "a": 1 }));
    assert_eq!(output["headers"]["content-type"], "application/json");
    let request = server.request();
    assert!(request.starts_with("get /x?a=1&b=%c3%a4+%26&c=2&d=true http/1.1\r\n"), "{request}");
    assert!(
        request.contains("\r\nx-one: 1\r\n")
            && request.contains("authorization: bearer s3cret\r\n")
    );
    assert!(!request.contains("idempotency-key"));
}

#[tokio::test]
async fn a_post_sends_a_body_and_the_idempotency_key() {
    let server =
        Server::start(vec![answer("201 Created", "set-cookie: a=b\r\nx: 1\r\nx: 2\r\n", "made")])
            .await;
    let input = json!({ "method": "POST", "body": { "n": 1.5, "l": [null] } });
    let output = call_at(&server, input).await.unwrap();
    assert_eq!(output["status"], 201);
    assert_eq!(output["body"], "made");
    assert_eq!(output["headers"]["x"], "1, 2");
    assert_eq!(output["headers"].get("set-cookie"), None);
    let request = server.request();
    assert!(request.contains("idempotency-key: detached\r\n"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"));
    assert!(request.ends_with("\r\n\r\n{\"n\":1.5,\"l\":[null]}"), "{request}");

    let server = Server::start(vec![answer("204 No Content", "", "")]).await;
    let input = json!({ "method": "PUT", "body": "text", "headers": { "content-type": "a/b" } });
    assert_eq!(call_at(&server, input).await.unwrap()["body"], Value::Null);
    assert!(
        server.request().contains("content-type: a/b\r\n")
            && server.request().ends_with("\r\n\r\ntext")
    );
}

#[tokio::test]
async fn hosts_that_are_not_allowed_are_refused_before_anything_is_sent() {
    let server = Server::start(vec![ok()]).await;
    let url = server.url("/");
    let refuse = async |allowed: Value, url: &str, message: &str| {
        assert_error(
            call(policy(allowed), json!({ "url": url })).await,
            "http_refused",
            false,
            message,
        );
    };
    refuse(json!([]), &url, "not among the allowed hosts").await;
    refuse(json!(["127.0.0.1"]), &url, "not among the allowed hosts").await;
    refuse(json!([format!("127.0.0.1:{}", server.port)]), &url, "no public address").await;
    // A name must not lead to where an address may not.
    let name = format!("localhost:{}", server.port);
    refuse(json!([name]), &format!("http://{name}/"), "leads to no public address").await;
    refuse(json!(["*"]), "http://localhost/", "leads to no public address").await;
    refuse(json!(["*"]), "http://[::ffff:127.0.0.1]/", "no public address").await;
    refuse(json!(["*"]), "file:///etc/passwd", "neither http nor https").await;
    refuse(json!(["*"]), "http://ann:pw@example.com/", "no user or password").await;
    assert!(server.requests().is_empty());

    let allowed = json!([{ "host": name, "private": true }]);
    call(policy(allowed), json!({ "url": format!("http://{name}/") })).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn each_redirect_is_checked_anew() {
    let target = Server::start(vec![ok()]).await;
    let to = |location: String| answer("302 Found", &format!("location: {location}\r\n"), "");
    let server = Server::start(vec![to(target.url("/private"))]).await;
    assert_error(
        call_at(&server, json!({})).await,
        "http_refused",
        false,
        "not among the allowed hosts",
    );
    let server = Server::start(vec![to("http://169.254.169.254/latest/meta-data".into())]).await;
    let both = policy(json!([private(&server), "*"]));
    let result = call(both, json!({ "url": server.url("/") })).await;
    assert_error(result, "http_refused", false, "169.254.169.254 is no public address");
    let server = Server::start(vec![to("file:///etc/passwd".into())]).await;
    assert_error(
        call_at(&server, json!({})).await,
        "http_refused",
        false,
        "neither http nor https",
    );
    assert!(target.requests().is_empty());

    let server = Server::start(vec![to("/again".into())]).await;
    assert_error(call_at(&server, json!({})).await, "http_refused", false, "more than 5 redirects");
    assert_eq!(server.requests().len(), 6);
    let server = Server::start(vec![to("/again".into())]).await;
    let output = call_at(&server, json!({ "expect_status": [302] })).await.unwrap();
    assert_eq!(output["headers"]["location"], "/again");
}

#[tokio::test]
async fn secrets_do_not_follow_a_redirect_to_another_host() {
    let other = Server::start(vec![ok()]).await;
    let to =
        |status: &str, location: &str| answer(status, &format!("location: {location}\r\n"), "");
    let server = Server::start(vec![
        to("307 Temporary Redirect", "/same"),
        to("307 Temporary Redirect", &other.url("/other")),
    ])
    .await;
    let input = json!({
        "method": "POST", "url": server.url("/"), "body": "b",
        "headers": { "x-key": { "secret": "KEY" }, "authorization": "Basic Zm9v", "cookie": "c=1", "x-plain": "p" },
    });
    call(policy(json!([private(&server), private(&other)])), input).await.unwrap();
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.contains("s3cret")) && requests.len() == 2);
    let request = other.request();
    assert!(request.starts_with("post /other") && request.ends_with("\r\n\r\nb"), "{request}");
    assert!(request.contains("x-plain: p"));
    for secret in ["s3cret", "zm9v", "c=1"] {
        assert!(!request.contains(secret), "{request}");
    }
}

#[tokio::test]
async fn a_secret_is_refused_to_hosts_that_are_not_its_own() {
    let (own, other) = (Server::start(vec![ok()]).await, Server::start(vec![ok()]).await);
    let policy = |hosts: Value| -> HttpPolicy {
        let policy = json!({
            "allowed_hosts": [private(&own), private(&other)],
            "secrets": { "KEY": { "value": "s3cret", "hosts": hosts } },
        });
        serde_json::from_value(policy).unwrap()
    };
    let host = |server: &Server| format!("127.0.0.1:{}", server.port);
    let input = |url: String| json!({ "url": url, "headers": { "x": { "secret": "KEY" } } });
    call(policy(json!([host(&own)])), input(own.url("/"))).await.unwrap();
    assert!(own.request().contains("x: s3cret"));
    let told = format!("the secret KEY may not be sent to {}: it is for other hosts", host(&other));
    let refused = call(policy(json!([host(&own)])), input(other.url("/"))).await;
    assert!(!refused.as_ref().unwrap_err().message.contains("s3cret"));
    assert_error(refused, "http_refused", false, &told);
    // That a rule is private lets the secret go nowhere else.
    let unused = json!([{ "host": "127.0.0.1", "private": true }]);
    assert_error(call(policy(unused), input(other.url("/"))).await, "http_refused", false, &told);
    let elsewhere = call(policy(json!(["*"])), input("http://example.com/".into())).await;
    assert_error(elsewhere, "http_refused", false, "example.com is not among the allowed hosts");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_secret_does_not_follow_a_redirect_even_to_another_of_its_hosts() {
    let other = Server::start(vec![ok()]).await;
    let to = answer("302 Found", &format!("location: {}\r\n", other.url("/")), "");
    let server = Server::start(vec![to]).await;
    let policy = json!({
        "allowed_hosts": [private(&server), private(&other)],
        "secrets": { "KEY": { "value": "s3cret", "hosts": [private(&server), private(&other)] } },
    });
    let input = json!({ "url": server.url("/"), "headers": { "x": { "secret": "KEY" } } });
    call(serde_json::from_value(policy).unwrap(), input).await.unwrap();
    assert!(server.request().contains("x: s3cret"));
    assert!(!other.request().contains("s3cret"));
}

#[tokio::test]
async fn a_redirected_post_becomes_a_get_without_its_body() {
    let to = answer("303 See Other", "location: /made\r\n", "");
    let server = Server::start(vec![to, ok()]).await;
    call_at(&server, json!({ "method": "POST", "body": { "a": 1 } })).await.unwrap();
    let second = server.requests()[1].to_lowercase();
    assert!(second.starts_with("get /made") && second.ends_with("\r\n\r\n"), "{second}");
    assert!(!second.contains("idempotency-key") && !second.contains("content-type"));
}

#[tokio::test]
async fn bodies_are_capped_and_must_be_what_they_say() {
    let large = "x".repeat(1_001);
    let fits = Server::start(vec![answer("200 OK", "", &large[..1_000])]).await;
    assert_eq!(call_at(&fits, json!({})).await.unwrap()["body"].as_str().unwrap().len(), 1_000);
    let announced = Server::start(vec![answer("200 OK", "", &large)]).await;
    assert_error(call_at(&announced, json!({})).await, "http_body", false, "more than 1000 bytes");
    let unannounced = Server::start(vec![format!("HTTP/1.1 200 OK\r\n\r\n{large}")]).await;
    assert_error(
        call_at(&unannounced, json!({})).await,
        "http_body",
        false,
        "more than 1000 bytes",
    );
    let json = "content-type: application/problem+json; charset=utf-8\r\n";
    let wrong = Server::start(vec![answer("200 OK", json, "{secret")]).await;
    assert_error(call_at(&wrong, json!({})).await, "http_body", false, "no JSON");
    let short =
        Server::start(vec!["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".into()]).await;
    assert_error(call_at(&short, json!({})).await, "http_broken", true, "broke off");
}

#[tokio::test]
async fn statuses_are_errors_unless_expected_and_never_show_bodies() {
    for (status, retryable) in
        [("404 Not Found", false), ("429 Too Many", true), ("500 Oh", true), ("304 Same", false)]
    {
        let server = Server::start(vec![answer(status, "", "private body")]).await;
        let result = call_at(&server, json!({ "url": "/path?q=hidden" })).await;
        let error = result.clone().unwrap_err();
        assert!(!error.message.contains("private") && !error.message.contains("hidden"));
        assert_error(
            result,
            "http_status",
            retryable,
            &format!("127.0.0.1:{} answered {}", server.port, &status[..3]),
        );
    }
    let server = Server::start(vec![answer("404 Not Found", "", "none")]).await;
    let output = call_at(&server, json!({ "expect_status": [200, 404] })).await.unwrap();
    assert_eq!((&output["status"], &output["body"]), (&json!(404), &json!("none")));
    let server = Server::start(vec![ok()]).await;
    assert_error(
        call_at(&server, json!({ "expect_status": [404] })).await,
        "http_status",
        false,
        "answered 200",
    );
}

#[tokio::test]
async fn passing_trouble_is_tried_again_as_often_as_asked() {
    let busy = || answer("503 Busy", "retry-after: 0\r\n", "");
    let server = Server::start(vec![busy(), busy(), ok()]).await;
    let output = call_at(&server, json!({ "method": "DELETE", "retries": 2 })).await.unwrap();
    assert_eq!(output["status"], 200);
    let keys = server
        .requests()
        .iter()
        .filter(|request| request.contains("idempotency-key: detached"))
        .count();
    assert_eq!(keys, 3);
    let server = Server::start(vec![busy(), busy(), ok()]).await;
    assert_error(call_at(&server, json!({ "retries": 1 })).await, "http_status", true, "503");
    assert_eq!(server.requests().len(), 2);
    let server = Server::start(vec![answer("500 Oh", "retry-after: 0\r\n", ""), ok()]).await;
    assert_error(call_at(&server, json!({ "retries": 5 })).await, "http_status", true, "500");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn servers_say_how_long_to_wait_in_seconds_or_by_a_date() {
    let now = "2026-11-06T08:49:00Z".parse().unwrap();
    let wait = |text: &'static str| {
        let headers = [(header::RETRY_AFTER, header::HeaderValue::from_static(text))];
        let (status, headers) = (StatusCode::SERVICE_UNAVAILABLE, HeaderMap::from_iter(headers));
        Reply { status, headers, body: vec![], host: String::new() }.retry_after(now)
    };
    assert_eq!(wait("7"), Some(Duration::from_secs(7)));
    assert_eq!(wait("Fri, 06 Nov 2026 08:49:37 GMT"), Some(Duration::from_secs(37)));
    assert_eq!(wait("Fri, 06 Nov 2026 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(wait("soon"), None);
}

#[tokio::test]
async fn silence_and_absence_have_codes_of_their_own() {
    let server = Server::start(vec!["silence".into()]).await;
    assert_error(
        call_at(&server, json!({ "timeout": "50ms" })).await,
        "http_timeout",
        true,
        "did not answer in time",
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let gone = Server { port, requests: Arc::default() };
    assert_error(call_at(&gone, json!({})).await, "http_connect", true, "could not be reached");
}

#[tokio::test]
async fn inputs_that_make_no_request_are_refused() {
    let server = Server::start(vec![ok()]).await;
    for (input, message) in [
        (json!({ "headers": { "host": "x" } }), "header host can't be set"),
        (json!({ "headers": { "a b": "x" } }), "no name of a header"),
        (json!({ "headers": { "a": "x\ny: z" } }), "no plain text"),
        (json!({ "timeout": "6m" }), "at most 5m"),
        (json!({ "timeout": "0s" }), "at most 5m"),
        (json!({ "timeout": "soon" }), "at most 5m"),
    ] {
        assert_error(call_at(&server, input).await, "http_input", false, message);
    }
    let unknown = json!({ "headers": { "a": { "secret": "OTHER" } } });
    assert_error(call_at(&server, unknown).await, "http_refused", false, "no secret OTHER");
    assert!(server.requests().is_empty());

    let tool = HttpTool::new(HttpPolicy::default());
    for input in [
        json!({}),
        json!({ "url": "http://a", "retries": 6 }),
        json!({ "url": "http://a", "method": "TRACE" }),
        json!({ "url": "http://a", "headers": { "a": { "secret": "KEY", "x": 1 } } }),
        json!({ "url": "http://a", "verb": "GET" }),
    ] {
        assert!(tool.spec().input.validate(&input).is_err(), "{input}");
        let result = tool.execute(&input, &ToolContext::detached()).await;
        assert_eq!(result.unwrap_err().code, "http_input");
    }
}

#[test]
fn the_tool_shows_no_secret() {
    let policy = HttpPolicy {
        secrets: BTreeMap::from([("KEY".to_owned(), Secret::new("s3cret"))]),
        ..HttpPolicy::default()
    };
    let tool = HttpTool::new(policy);
    assert!(tool.spec().effect);
    assert!(!format!("{tool:?}").contains("s3cret"));
}
