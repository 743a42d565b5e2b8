use serde_json::json;

use super::*;
use crate::{
    ErrorKind, Metadata, ToolContext, hours,
    tool::{HumanInTheLoop, Output},
    wait::WaitRequest,
};

#[derive(Clone, Serialize, serde::Deserialize, JsonSchema)]
struct Order {
    id: String,
    total: f64,
}

#[derive(Clone, Serialize, serde::Deserialize, JsonSchema)]
struct Verdict {
    good: bool,
}

async fn ask(tool: Result<Arc<dyn Tool>>, input: Value) -> Result<WaitRequest, ToolError> {
    match tool.unwrap().execute(&input, &ToolContext::detached()).await? {
        Output::Suspend(request) => Ok(request),
        Output::Value(value) => panic!("it gave {value} instead of asking"),
    }
}

fn order() -> Value {
    json!({ "id": "o-1", "total": 12.5 })
}

/// Why it can't be a tool.
fn problems<A, S>(question: AwaitInput<A, S>) -> Vec<String> {
    let error = question.into_tool().err().expect("it must not be usable");
    assert_eq!(error.kind(), ErrorKind::InvalidFlow);
    assert!(error.findings().iter().all(|finding| finding.path == "ask"));
    error.findings().iter().map(|finding| finding.message.clone()).collect()
}

fn number(id: &str) -> AwaitInput<u32> {
    AwaitInput::new(id)
}

#[tokio::test]
async fn a_question_asks_with_all_that_it_was_given() {
    let tool = AwaitInput::<Verdict>::new("ask")
        .name("Ask")
        .description("Asks.")
        .prompt_with(|order: &Order| format!("Is {} good?", order.id))
        .show(|order: &Order| json!({ "sum": order.total }))
        .timeout(hours(4))
        .default_value(Verdict { good: false })
        .metadata("department", "finance")
        .metadata("level", 3)
        .metadata_with("total", |order: &Order| order.total)
        .into_tool()
        .unwrap();
    let spec = tool.spec();
    assert_eq!(
        (spec.id.as_str(), spec.name.as_str(), spec.description.as_str()),
        ("ask", "Ask", "Asks.")
    );
    assert!(spec.awaits_input && !spec.effect);
    assert_eq!(spec.output, Schema::of::<Verdict>().unwrap());
    let request = ask(Ok(tool), order()).await.unwrap();
    let metadata: Metadata = [
        ("department".to_owned(), Scalar::from("finance")),
        ("level".to_owned(), Scalar::from(3)),
        ("total".to_owned(), Scalar::from(12.5)),
    ]
    .into();
    assert_eq!(
        request,
        WaitRequest {
            prompt: "Is o-1 good?".into(),
            shown: Some(json!({ "sum": 12.5 })),
            schema: Schema::of::<Verdict>().unwrap(),
            deadline: Deadline::After(hours(4)),
            default: Some(json!({ "good": false })),
            metadata,
            saved: None,
        }
    );
}

#[tokio::test]
async fn a_question_that_was_given_nothing_asks_for_itself() {
    let request = ask(number("ask").into_tool(), json!(null)).await.unwrap();
    assert_eq!(request.prompt, "Input needed: ask");
    assert_eq!((request.shown, request.default), (None, None));
    assert_eq!(request.deadline, Deadline::HubDefault);
    assert!(request.metadata.is_empty());
    let named = number("ask").name("How many?").no_timeout();
    let request = ask(named.into_tool(), json!(null)).await.unwrap();
    assert_eq!(request.prompt, "Input needed: How many?");
    assert_eq!(request.deadline, Deadline::Never);
}

#[tokio::test]
async fn false_null_and_zero_are_defaults() {
    for default in [json!(false), json!(null), json!(0), json!("")] {
        let question = AwaitInput::untyped("ask", Schema::any()).default_value(default.clone());
        let request = ask(question.into_tool(), json!(1)).await.unwrap();
        assert_eq!(request.default, Some(default));
    }
    let request = ask(number("ask").default_value(0).into_tool(), json!(1)).await.unwrap();
    assert_eq!(request.default, Some(json!(0)));
}

#[tokio::test]
async fn what_is_shown_may_be_null() {
    let question = number("ask").show(|_: &Value| Value::Null);
    let request = ask(question.into_tool(), order()).await.unwrap();
    assert_eq!(request.shown, Some(Value::Null));
}

#[test]
fn a_default_that_does_not_fit_is_refused_with_every_violation() {
    let schema = json!({
        "type": "object",
        "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
    });
    let question = AwaitInput::untyped("ask", Schema::new(schema).unwrap())
        .default_value(json!({ "a": 1, "b": 2 }));
    let found = problems(question);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("the default does not fit the schema: /a: "), "{found:?}");
    assert!(found[1].starts_with("the default does not fit the schema: /b: "), "{found:?}");
}

#[test]
fn what_can_be_known_to_be_wrong_is_refused_before_anything_runs() {
    let question = number("ask")
        .timeout(Duration::from_micros(999))
        .metadata("", "nameless")
        .metadata("text", "a\0b");
    let found = problems(question);
    assert_eq!(
        found,
        [
            "a timeout is at least a millisecond; say `no_timeout` for none",
            "a name in metadata is not empty and has no U+0000",
            "metadata \"text\" holds U+0000, which not every database can hold",
        ]
    );
    let found = problems(number("ask").metadata("score", f64::NAN));
    assert_eq!(found, ["metadata \"score\" is not a finite number"]);
    let error = number("no id").into_tool().err().unwrap();
    assert!(error.message().contains("not ' '"), "{error}");
}

#[tokio::test]
async fn the_data_form_computes_prompt_shown_value_and_metadata_too() {
    let fields = |value: Value| Compute::Object([("x".to_owned(), Compute::Value(value))].into());
    let mut def = AwaitInputDef::new("ask", Schema::any());
    def.show = Some(fields(json!(1)));
    def.metadata.insert("whole".into(), Compute::Value(json!(7)));
    let request = ask(def.clone().into_tool(), json!(null)).await.unwrap();
    assert_eq!(request.prompt, "Input needed: ask");
    assert_eq!(request.shown, Some(json!({ "x": 1 })));
    assert_eq!(request.metadata["whole"], Scalar::Int(7));

    def.prompt = Compute::Value(json!(["no", "text"]));
    let error = def.clone().into_tool().err().unwrap();
    assert_eq!(error.findings()[0].message, "a prompt is a text, not a list");
    def.prompt = fields(json!("no text either"));
    let error = ask(def.into_tool(), json!(null)).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("prompt", false));
    assert_eq!(error.message, "the prompt must be a text, not an object");
}

#[tokio::test]
async fn metadata_that_can_not_be_filtered_by_fails_with_its_code() {
    let beyond = u64::try_from(i64::MAX).unwrap() + 1;
    for (value, problem) in [
        (json!({}), "is a text, a number or a boolean, not an object"),
        (json!([]), "is a text, a number or a boolean, not a list"),
        (json!(null), "is a text, a number or a boolean, not null"),
        (json!(beyond), "is a number beyond 64 bits with a sign"),
        (json!("\0"), "holds U+0000, which not every database can hold"),
    ] {
        let mut def = AwaitInputDef::new("ask", Schema::any());
        let computed = Code::new(move |scope| Ok(scope.value["it"].clone()));
        def.metadata.insert("it".into(), Compute::Code(computed));
        let error = ask(def.into_tool(), json!({ "it": value })).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("metadata", false));
        assert_eq!(error.message, format!("metadata \"it\" {problem}"));
    }
    let question = number("ask").metadata_with("ratio", |order: &Order| order.total / 0.0);
    let error = ask(question.into_tool(), order()).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("metadata", "metadata \"ratio\" is not a finite number")
    );
}

#[test]
fn every_kind_of_scalar_is_metadata_as_it_is() {
    for (value, expected) in [
        (json!(true), Scalar::Bool(true)),
        (json!(i64::MIN), Scalar::Int(i64::MIN)),
        (json!(2.0), Scalar::Float(2.0)),
        (json!("text"), Scalar::Text("text".into())),
    ] {
        assert_eq!(Scalar::of_json(value.clone()), Ok(expected.clone()));
        assert_eq!(plain(expected), Ok(value));
    }
}

#[tokio::test]
async fn a_value_of_another_type_names_the_question_and_its_part() {
    let question = number("ask").prompt_with(|order: &Order| order.id.clone());
    let error = ask(question.into_tool(), json!({ "total": 1 })).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("input_invalid", false));
    assert!(error.message.starts_with("the prompt of ask can't be made of this value"), "{error}");
}

#[tokio::test]
async fn computations_see_variables_and_the_run() {
    let mut context = ToolContext::detached();
    context.variables = Arc::new([("who".to_owned(), json!("jane").into())].into());
    context.run_input = Arc::new(json!("started so"));
    let mut def = AwaitInputDef::new("ask", Schema::any());
    def.show = Some(Compute::Code(Code::new(|scope| {
        let run = scope.run_id.to_string();
        Ok(json!([scope.value, scope.vars["who"], scope.input, run]))
    })));
    let output = def.into_tool().unwrap().execute(&json!(1), &context).await.unwrap();
    let Output::Suspend(request) = output else { panic!("{output:?}") };
    let run = context.run_id.to_string();
    assert_eq!(request.shown, Some(json!([1, "jane", "started so", run])));
}

#[test]
fn a_schema_and_options_of_a_preset_exclude_each_other() {
    let schema = || Schema::new(json!({ "type": "object", "required": ["comments"] })).unwrap();
    let refused = |problems: Vec<String>| {
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("exclude each other"), "{problems:?}");
    };
    let approval = || HumanInTheLoop::approval("ask");
    refused(problems(approval().schema(schema()).require_comments()));
    refused(problems(approval().require_comments().schema(schema())));
    refused(problems(approval().require_comments().schema(schema()).allow_delegation()));
    refused(problems(HumanInTheLoop::choice("ask", ["a", "b"]).schema(schema())));
    refused(problems(HumanInTheLoop::form("ask").field("a", json!(true)).schema(schema())));
    // A preset without options has nothing that could be lost, and of two schemas the last one counts.
    let narrowed = approval().schema(Schema::any()).schema(schema());
    assert_eq!(narrowed.into_def().unwrap().schema, schema());
}

#[test]
fn a_schema_may_be_narrowed_and_an_option_of_a_preset_puts_its_own_in_place() {
    let narrow = Schema::new(json!({ "type": "integer", "maximum": 3 })).unwrap();
    let schema = number("ask").schema(narrow).into_def().unwrap().schema;
    assert!(schema.validate(&json!(4)).is_err());
    let text = AwaitInput::<crate::tool::TextInput>::new("ask").min_length(2);
    let schema = text.into_def().unwrap().schema;
    assert!(schema.validate(&json!({ "text": "a" })).is_err());
    assert!(schema.validate(&json!({ "text": "ab" })).is_ok());
}
