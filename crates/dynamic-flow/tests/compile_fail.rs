//! What must not compile, and with which words. After a change that is meant, or with another
//! compiler, look at what `TRYBUILD=overwrite cargo test --test compile_fail` writes.

#[test]
fn what_is_wrong_does_not_compile_and_says_why() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/right.rs");
    cases.compile_fail("tests/compile_fail/pipe_*.rs");
    cases.compile_fail("tests/compile_fail/tool_*.rs");
}
