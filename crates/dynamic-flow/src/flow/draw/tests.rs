use serde_json::Value;

use super::*;
use crate::{engine::RunStatus, flow::Flow, tool::ToolRegistry};

fn at(path: &str, mark: Mark) -> (Position, Mark) {
    (serde_json::from_value(Value::from(path)).unwrap(), mark)
}

fn flow(text: &str) -> Flow {
    Flow::from_document(text, &ToolRegistry::new())
        .unwrap_or_else(|error| panic!("{:#?}", error.findings()))
}

const FLOW: &str = r#"
flow: review
name: 'Review "it" <now>'
steps:
  - { id: remember, let: { a: 1, b: 2 } }
  - id: route
    switch:
      on: "${ value.route }"
      cases:
        'high | "risk"':
          - { id: ask, await_input: { tool: human, schema: true } }
          - { id: ok, filter: "${ value.ok }" }
        low: []
      default:
        - { id: stop, fail: { code: unknown, message: m } }
  - id: careful
    try:
      - { id: twice, retry: { attempts: 2, do: [{ id: rest, wait: 1s }] } }
    catch: { do: [{ id: sorry, set: 1 }] }
  - { id: last, get: a }
"#;

#[test]
fn mermaid_shows_the_whole_tree_and_where_the_run_stands() {
    let flow = flow(FLOW);
    insta::assert_snapshot!(mermaid(flow.def(), &[at("route/ask", Mark::Waits)]), @r###"
    flowchart TD
      n0(["Review #34;it#34; #60;now#62;"])
      n1["remember<br/>let a, b"]
      n2{"route<br/>switch"}
      subgraph g3["high | #34;risk#34;"]
        n4{{"ask<br/>await input human<br/>⏸ waits here"}}
        n5{"ok<br/>filter"}
      end
      subgraph g6["otherwise"]
        n7>"stop<br/>fail unknown"]
      end
      subgraph g8["careful: try"]
        subgraph g9["twice: retry, 2 attempts"]
          n10("rest<br/>wait")
        end
      end
      subgraph g11["careful: on error"]
        n12["sorry<br/>set"]
      end
      n13["last<br/>get a"]
      n14(["completed"])
      n15(["rejected"])
      n0 --> n1
      n1 --> n2
      n2 -->|"high | #34;risk#34;"| n4
      n4 --> n5
      n2 -->|"otherwise"| n7
      n5 -->|"yes"| n10
      n2 -->|"low"| n10
      g8 -.->|"error"| n12
      n10 --> n13
      n12 --> n13
      n13 --> n14
      n5 -->|"no"| n15
      classDef waits fill:#ffd54f,stroke:#e65100,stroke-width:3px,color:#000
      class n4 waits
    "###);
}

#[test]
fn dot_shows_the_whole_tree_and_where_the_run_stands() {
    let flow = flow(FLOW);
    insta::assert_snapshot!(dot(flow.def(), &[at("route/ask", Mark::Waits), at("careful/twice[3]", Mark::Failed)]), @r###"
    digraph "review" {
      compound=true;
      node [fontname="Helvetica", shape=box];
      n0 [label="Review \"it\" <now>", shape=oval];
      n1 [label="remember\nlet a, b", shape=box];
      n2 [label="route\nswitch", shape=diamond];
      subgraph "cluster_3" {
        label="high | \"risk\"";
        n4 [label="ask\nawait input human\nwaits here", shape=hexagon, style="filled,bold", fillcolor="#ffd54f", color="#e65100"];
        n5 [label="ok\nfilter", shape=diamond];
      }
      subgraph "cluster_6" {
        label="otherwise";
        n7 [label="stop\nfail unknown", shape=octagon];
      }
      subgraph "cluster_8" {
        label="careful: try";
        subgraph "cluster_9" {
          label="twice: retry, 2 attempts";
          n10 [label="rest\nwait", shape=box, style=rounded];
          graph [style="filled,bold", fillcolor="#ef9a9a", color="#b71c1c"];
        }
      }
      subgraph "cluster_11" {
        label="careful: on error";
        n12 [label="sorry\nset", shape=box];
      }
      n13 [label="last\nget a", shape=box];
      n14 [label="completed", shape=oval];
      n15 [label="rejected", shape=oval];
      n0 -> n1;
      n1 -> n2;
      n2 -> n4 [label="high | \"risk\""];
      n4 -> n5;
      n2 -> n7 [label="otherwise"];
      n5 -> n10 [label="yes"];
      n2 -> n10 [label="low"];
      n10 -> n12 [label="error", style=dashed, ltail="cluster_8"];
      n10 -> n13;
      n12 -> n13;
      n13 -> n14;
      n5 -> n15 [label="no"];
    }
    "###);
}

#[test]
fn labels_can_not_break_out() {
    let text = "flow: f\nname: \"a]\\\"; x --> y\\n%% `b` \\\\\"\nsteps: [{ id: s, set: 1 }]\n";
    let flow = flow(text);
    let drawn = mermaid(flow.def(), &[]);
    assert_eq!(drawn.lines().count(), 6, "{drawn}");
    let label = drawn.lines().nth(1).unwrap();
    assert_eq!(label, "  n0([\"a]#34;#59; x --#62; y #37;#37; #96;b#96; #92;\"])");
    let drawn = dot(flow.def(), &[]);
    assert!(drawn.contains(r#"n0 [label="a]\"; x --> y %% `b` \\", shape=oval];"#), "{drawn}");
}

#[test]
fn a_frame_is_marked_and_a_flow_that_only_fails_has_no_end() {
    let retry =
        flow("flow: f\nsteps: [{ id: r, retry: { attempts: 2, do: [{ id: s, set: 1 }] } }]\n");
    assert!(mermaid(retry.def(), &[at("r", Mark::Waits)]).contains("  class g1 waits\n"));
    assert!(!mermaid(retry.def(), &[]).contains("class"));
    let fails = flow("flow: f\nsteps: [{ id: s, fail: { code: c, message: m } }]\n");
    assert!(!mermaid(fails.def(), &[]).contains("completed"));
}

#[test]
fn filters_lead_to_one_end_where_they_say_no() {
    let flow = flow(
        "flow: f\nsteps:\n  - { id: a, filter: '${ value.a }' }\n  - id: k\n    keep: [{ id: b, filter: '${ value.b }' }]\n",
    );
    let marked = [at("k/b", Mark::Rejected)];
    let drawn = mermaid(flow.def(), &marked);
    assert_eq!(drawn.matches("rejected\"])").count(), 1, "{drawn}");
    assert!(drawn.contains("  n1 -->|\"no\"| n5\n  n3 -->|\"no\"| n5\n"), "{drawn}");
    // What is marked is the filter, not the end.
    assert!(drawn.contains("  class n3 rejected\n"), "{drawn}");
    let drawn = dot(flow.def(), &marked);
    assert_eq!(drawn.matches("label=\"rejected\"").count(), 1, "{drawn}");
    assert!(drawn.contains("  n1 -> n5 [label=\"no\"];\n  n3 -> n5 [label=\"no\"];\n"), "{drawn}");
    assert!(drawn.contains("n3 [label=\"b\\nfilter\\nsaid no\""), "{drawn}");
}

#[test]
fn an_ended_run_is_not_drawn_as_waiting() {
    let flow = flow("flow: f\nsteps: [{ id: s, set: 1 }]\n");
    for status in RunStatus::ALL {
        let marked = [at("s", status.into())];
        let [mermaid, dot] = [mermaid(flow.def(), &marked), dot(flow.def(), &marked)];
        let words = match status {
            RunStatus::Waiting => "waits here",
            RunStatus::Ready | RunStatus::Running => "is here",
            RunStatus::Completed => "ended here",
            RunStatus::Rejected => "said no",
            RunStatus::Failed => "failed here",
            RunStatus::Expired => "expired here",
            RunStatus::Cancelled => "cancelled here",
        };
        for drawn in [&mermaid, &dot] {
            assert!(drawn.contains(words), "{status}: {drawn}");
        }
        let waits = status == RunStatus::Waiting;
        assert_eq!(mermaid.contains("class n1 waits\n"), waits, "{status}: {mermaid}");
        assert_eq!(dot.contains("#ffd54f"), waits, "{status}: {dot}");
    }
}

#[test]
fn steps_with_different_marks_are_told_apart() {
    let flow = flow("flow: f\nsteps: [{ id: a, set: 1 }, { id: b, set: 1 }, { id: c, set: 1 }]\n");
    let marked = [at("a", Mark::Waits), at("b", Mark::Failed), at("c", Mark::Waits)];
    let drawn = mermaid(flow.def(), &marked);
    assert!(drawn.contains("  class n1,n3 waits\n"), "{drawn}");
    assert!(drawn.contains("  class n2 failed\n"), "{drawn}");
}

#[test]
fn a_flow_in_code_is_drawn_in_the_words_of_code() {
    let flow = Flow::input::<u32>("double").map("twice", |n| n * 2).sleep("rest", crate::hours(1));
    let drawn = mermaid(flow.build().unwrap().def(), &[]);
    assert!(drawn.contains("twice<br/>map") && drawn.contains("rest<br/>sleep"), "{drawn}");
}
