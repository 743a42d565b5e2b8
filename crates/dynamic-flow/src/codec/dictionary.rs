//! What every state has: state is compressed as if this had come before it.
//!
//! State is short, and half of a short one is the names of its fields, the schema of its wait and,
//! where it came from a document, the words of documents. What of it stands here is stored as a
//! reference.

/// What compression knows from the start, in sealed bytes of that format.
///
/// It is never changed: what was stored with it would not open any more. A better one is for another
/// format.
pub(super) fn of_format(format: u8) -> Option<&'static [u8]> {
    (format >= 2).then_some(DICTIONARY_2.as_bytes())
}

/// The one of the format that this build writes.
#[cfg(any(feature = "gzip", feature = "zstd"))]
pub(super) fn newest() -> &'static [u8] {
    DICTIONARY_2.as_bytes()
}

/// The rarest first: what is nearer to the state takes less to refer to. Schemas have their keywords
/// in the order of the alphabet, as state has them.
const DICTIONARY_2: &str = concat!(
    // Documents, within the JSON text that they are a part of.
    r##"version: 1\nflow: name: description: \ninput:\n  type: object\n  required: [id]\n"##,
    r##"  properties:\n    id: { type: string, pattern: \"^[0-9]+$\" }\n    "##,
    r##"amount: { type: number, minimum: 0, description: \"\" }\n    count: { type: integer }\n"##,
    r##"    enum: [\n\noutput:\n  type: object\n  required: [id, status]\n  properties:\n"##,
    r##"\nsteps:\n  - id: remember\n    let: { order: \"${ value }\" }\n\n  - id: validate\n"##,
    r##"    description: \n    set:\n      id: \"${ value.id }\"\n      "##,
    r##"\"${ has(value.) ? value. : '' }\"\n    call: http\n    with:\n      method: POST\n"##,
    r##"      url: https://\n    retry:\n      max_attempts: 3\n    catch:\n    try:\n    "##,
    r##"template: >-\n        switch:\n      on: \"${ value. > ? '' : '' }\"\n      cases:\n"##,
    r##"        auto:\n          - id: \n    await_input:\n      name: \n      description: \n"##,
    r##"      prompt: >-\n        {{ vars.order.id }} {{ value. }}\n      show: \"${ vars.order }\"\n"##,
    r##"      schema:\n        type: object\n        required: [approved]\n"##,
    r##"        additionalProperties: false\n        properties:\n          "##,
    r##"approved: { type: boolean, title: }\n      preset: approval\n      timeout: 24h\n"##,
    r##"      default: { approved: false, approved_by: system, comments: }\n      metadata:\n"##,
    r##"        : \"${ vars. }\"\n\n  - id: approved\n    filter: \"${ value.approved }\"\n\n"##,
    // Schemas of answers.
    r##"{"$defs":{"":{"items":{"$ref":"#/$defs/"},"minItems":1,"type":"array"},"oneOf":[{"const":""##,
    r##"},{"anyOf":[{"type":"null"}],"format":"date-time","format":"double","format":"uint32","##,
    r##""maximum":100,"maxLength":200,"minimum":0,"type":"integer"},"type":"number"},"default":null,"##,
    r##""choice":{"enum":["","number":{"text":{"confirmed":{"description":"Whether it shall be "##,
    r##"done.","type":"boolean"},"confirmed_by":{"reason":{"annotations":{"description":"Remarks on "##,
    r##"places in the document.","decision":{"description":"The verdict.","enum":["approved","##,
    r##""rejected","needs_changes"],"type":"string"},"reviewed_by":{"delegated_to":{"##,
    // What is accepted for a run, and what runs that were answered, failed or ended have.
    r##"{"at":179,"what":{"cancel":{"by":"","reason":""}}{"at":179,"what":{"key":{"wait_id":"","##,
    r##""digest":"{"at":179,"what":{"answer":{"wait_id":"#1","answer":{"input":{"approved":true,"##,
    r##""by":"","request_id":""},"receipt":{"saved":{"ended":{"cancelled":{"by":null,"reason":"##,
    r##"null}}"ended":{"set_aside":{"code":"poisoned","ended":{"rejected":{"position":"","value":"##,
    r##""output":{"ended":{"failed":{"code":"tool","message":"","position":"","tool_id":"","##,
    r##""retryable":false}}}"status":"cancelled","status":"expired","status":"rejected","##,
    r##""status":"failed","status":"completed","status":"ready","status":"running","##,
    r##""kind":"sub_flow"},"kind":"catch"},"kind":"retry"},"kind":"timeout"},"kind":"tool","##,
    r##""kind":"switch"},"body":{"arm":""},"memo":{"timeout":{"deadline":179}}"memo":{"retry":{"##,
    r##""failed":1,"until":179}}{"at":"calling","call":{"id":2,"kind":{"on_resume":{"answer":"##,
    r##"{"at":"calling","call":{"id":2,"kind":"compute","attempt":1}{"at":"calling","call":{"id":"##,
    r##"2,"kind":{"tool":{"input":{}},"attempt":1}}{"at":"sleeping","until":179}},"state":{"at":"##,
    r##""failed"}}],"value":null,"state":{"at":"ready"}},"waits":[],"receipts":[{"wait_id":"#1","##,
    r##""tool_id":"","closed":"answered","at":179,"by":"","request_id":"","question":"","##,
    r##""input":"","keys":[""]}],"earlier_receipts":0,"opened_waits":1,"calls":2,"output":null}"##,
    // A run at its wait, from the first field to the last.
    r##"{"format":2,"sequence":1,"run_id":"01a2-7-8","flow":{"id":"","fingerprint":"","document":""##,
    r##"","steps":[{"path":"","kind":"keep"},{"path":"manager-approval","kind":"await_input","##,
    r##""tool_id":""}]},"metadata":{},"input":{"amount":1,"currency":"","customer":"","id":"","##,
    r##""name":"","total":0},"status":"waiting","root":{"body":"main","iteration":1,"step":"","##,
    r##""index":2,"value":{"id":"","vars":{"order":{"id":""},"state":{"at":"inside","branches":[{"##,
    r##""body":"main","iteration":1,"step":"","state":{"at":"waiting","wait":"manager-approval#1"}}"##,
    r##"],"memo":"none"}},"waits":[{"version":1,"id":"#1","tool_id":"","position":"","prompt":"","##,
    r##""shown":{"id":"","schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","##,
    r##""additionalProperties":false,"properties":{"approved":{"description":"Yes or no.","type":"##,
    r##""boolean"},"approved_by":{"description":"Who decided.","minLength":1,"title":"","type":"##,
    r##""string"},"comments":{"description":"Why.","type":["string","null"]}},"required":["##,
    r##""approved","approved_by"],"title":"","type":"object"},"deadline":{"after":{"secs":86400,"##,
    r##""nanos":0}},"default":{"approved":false,"approved_by":"system","comments":""},"metadata":{},"##,
    r##""created_at":179,"expires_at":179,"keys":[""],"question":"","notified":false}],"receipts":[],"##,
    r##""earlier_receipts":0,"opened_waits":1,"calls":1}"##,
);

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::{super::envelope::FORMAT, *};

    #[test]
    fn a_dictionary_that_state_was_stored_with_never_changes() {
        let digest = |format| Sha256::digest(of_format(format).unwrap());
        let hex = |format| digest(format).iter().map(|it| format!("{it:02x}")).collect::<String>();
        assert_eq!(of_format(1), None);
        assert_eq!(hex(2), "6c2df657c4865a0a4dc23af128746af6a3b101141e7437b8ec8c300a77aa7b7d");
        assert_eq!(of_format(FORMAT), Some(newest()), "what is written can be read");
    }
}
