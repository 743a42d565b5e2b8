//! The statements that read and write one record, or a few: each a transaction of its own.
//!
//! A write takes the node's lock first, by setting a property, and only then looks at what the
//! write is conditional on: a condition in the same breath as the match is looked at before the
//! lock is there, and several writers find it true. The property is taken away at once, so that a
//! write whose condition does not hold leaves nothing behind, and commits nothing.

use neo4rs::BoltType;

use super::{
    names::Names,
    rows::{
        self, INBOX_STAMP, METADATA, SNAPSHOT_STAMP, Stamp, WAITS, WHOLE, counter, id_text, items,
        json, metadata_links, row_of, size, wait_links,
    },
    statement::Statement,
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::{Epoch, RunId},
    store::{Change, Claim, Expect, Record},
};

/// Takes the lock of `f`.
const LOCK: &str = "SET f._lock = true REMOVE f._lock";

pub(super) fn insert(names: &Names, record: &Record) -> Result<Statement, Trouble> {
    let Names { run, flow, of, .. } = names;
    let text = format!(
        "CREATE (f:{run}) SET f = $p.properties \
         MERGE (d:{flow} {{id: $p.flow}}) CREATE (f)-[:{of}]->(d) \
         WITH f, true AS rewait, true AS retag {} {} RETURN true AS done",
        link_waits(names),
        link_metadata(names)
    );
    Ok(Statement::new(text)
        .param("properties", BoltType::Map(rows::properties(record, Stamp::new()?)?))
        .param("flow", record.flow_id.as_str())
        .param("waitLinks", wait_links(&record.waits))
        .param("metadataLinks", metadata_links(Some(&record.metadata))?))
}

/// Gives a row if there is a record of that run.
pub(super) fn exists(names: &Names, id: RunId) -> Statement {
    let text = format!("MATCH (f:{} {{id: $p.id}}) RETURN true AS found", names.run);
    Statement::new(text).param("id", id_text(id))
}

pub(super) fn get(names: &Names, id: RunId) -> Statement {
    let text = format!("MATCH (f:{} {{id: $p.id}}) RETURN {WHOLE}", names.run);
    Statement::new(text).param("id", id_text(id))
}

/// Gives the new revision, or no row if the condition does not hold.
pub(super) fn update(
    names: &Names,
    id: RunId,
    expect: Expect,
    change: &Change,
) -> Result<Statement, Trouble> {
    let stamp = Stamp::new()?;
    let old = |place: usize| format!("f.row[{place}]");
    let [mut waits, mut metadata, mut inbox] = [WAITS, METADATA, INBOX_STAMP].map(old);
    let snapshot =
        format!("CASE WHEN $p.newSnapshot THEN $p.stamp ELSE {} END", old(SNAPSHOT_STAMP));
    let mut text = expected(names);
    let links = change.waits.is_some() || change.metadata.is_some();
    if links {
        // What is as it was keeps its relationships: they cost more than all the rest.
        text.push_str(&format!(
            " WITH f, coalesce($p.waits <> {waits}, false) AS rewait, \
             coalesce($p.metadata <> {metadata}, false) AS retag"
        ));
        waits = format!("coalesce($p.waits, {waits})");
        metadata = format!("coalesce($p.metadata, {metadata})");
    }
    text.push_str(" SET f += $p.properties SET f.revision = f.revision + 1");
    let whole_inbox = change.inbox.as_ref();
    if whole_inbox.is_some() || change.inbox_drop > 0 || !change.inbox_push.is_empty() {
        text.push_str(
            " SET f.inbox = [$p.stamp] + coalesce(f.inbox, [''])[1..][$p.drop..] + $p.push \
             SET f.inboxSize = size(f.inbox) - 1",
        );
        inbox = "$p.stamp".into();
    }
    text.push_str(&format!(" SET f.row = {}", row_of("f", &waits, &metadata, &snapshot, &inbox)));
    if links {
        text.push_str(" WITH f, rewait, retag");
        text.push_str(&unlink_waits(names));
        text.push_str(&link_waits(names));
        text.push_str(&unlink_metadata(names));
        text.push_str(&link_metadata(names));
    }
    text.push_str(" RETURN f.revision AS revision");

    // What the server takes for a place in a list has 32 bits.
    let all = i64::from(i32::MAX);
    let drop = if whole_inbox.is_some() { all } else { size(change.inbox_drop).min(all) };
    Ok(Statement::new(text)
        .param("id", id_text(id))
        .maybe("expected", expectation(expect))
        .param("properties", BoltType::Map(rows::changed_properties(change, stamp)?))
        .param("stamp", stamp.text())
        .param("newSnapshot", change.snapshot.is_some())
        .param("drop", drop)
        .param("push", items(whole_inbox.unwrap_or(&change.inbox_push)))
        .maybe("waits", change.waits.as_ref().map(|it| json(it, "waits")).transpose()?)
        .maybe("metadata", change.metadata.as_ref().map(|it| json(it, "metadata")).transpose()?)
        .param("waitLinks", wait_links(change.waits.as_deref().unwrap_or_default()))
        .param("metadataLinks", metadata_links(change.metadata.as_ref())?))
}

/// Gives a row if there was such a record.
pub(super) fn delete(names: &Names, id: RunId, expect: Expect) -> Statement {
    let text = format!(
        "{} WITH f, true AS retag {} DETACH DELETE f RETURN true AS done",
        expected(names),
        unlink_metadata(names),
    );
    let none: Vec<BoltType> = Vec::new();
    Statement::new(text)
        .param("id", id_text(id))
        .maybe("expected", expectation(expect))
        .param("metadataLinks", none)
}

/// Gives a row for each run that was due: with the whole record if it is the caller's now, and
/// `given` false if somebody else was quicker.
pub(super) fn claim(names: &Names, claim: &Claim) -> Statement {
    let run = &names.run;
    let free = |f: &str| {
        format!("{f}.dueAt <= $p.now AND ({f}.leaseUntil IS NULL OR {f}.leaseUntil <= $p.now)")
    };
    let old = |place: usize| format!("mine.row[{place}]");
    let [waits, metadata, snapshot, inbox] =
        [WAITS, METADATA, SNAPSHOT_STAMP, INBOX_STAMP].map(old);
    // One whose row has another form would fail the claim for all others.
    let sound = |f: &str| {
        let places = INBOX_STAMP + 1;
        format!(
            "CASE WHEN {f}.row IS :: LIST<STRING NOT NULL> NOT NULL THEN size({f}.row) = {places} \
             ELSE false END"
        )
    };
    // What is looked at under the lock is matched anew, by the id: the planner keeps properties
    // that it has read before, and does not know of the others who write.
    let text = format!(
        "UNWIND $p.queues AS queue \
         CALL (queue) {{ \
           MATCH (c:{run}) USING INDEX SEEK c:{run}(queue, dueAt) \
           WHERE c.queue = queue AND {} AND {} AND NOT c.id IN $p.except \
           RETURN c.id AS id, c.dueAt AS due ORDER BY c.queue, c.dueAt LIMIT $p.limit \
         }} \
         WITH id, due ORDER BY due LIMIT $p.limit \
         MATCH (f:{run} {{id: id}}) USING INDEX SEEK f:{run}(id) \
         {LOCK} \
         WITH f, coalesce(f.queue IN $p.queues AND {} AND {}, false) AS given \
         FOREACH (mine IN CASE WHEN given THEN [f] ELSE [] END | \
           SET mine.revision = mine.revision + 1, mine.epoch = mine.epoch + 1, \
             mine.updatedAt = $p.now, mine.dueAt = $p.until, mine.leaseUntil = $p.until, \
             mine.leaseOwner = $p.owner, \
             mine.attempts = CASE WHEN mine.attempts < $p.most THEN mine.attempts + 1 ELSE $p.most END, \
             mine.status = CASE WHEN mine.status IN $p.final THEN mine.status ELSE $p.running END \
           SET mine.row = {}) \
         RETURN given, {WHOLE}",
        free("c"),
        sound("c"),
        free("f"),
        sound("f"),
        row_of("mine", &waits, &metadata, &snapshot, &inbox),
    );
    let mut queues: Vec<_> = claim.queues.iter().map(|queue| queue.0.clone()).collect();
    queues.sort_unstable();
    queues.dedup();
    let ended = RunStatus::ALL.into_iter().filter(|status| status.is_final());
    let ended: Vec<_> = ended.map(|status| status.as_str().to_owned()).collect();
    Statement::new(text)
        .param("queues", queues)
        .param("limit", size(claim.limit))
        .param("except", claim.except.iter().map(|id| id_text(*id)).collect::<Vec<_>>())
        .param("now", claim.now.as_millis())
        .param("until", claim.until().as_millis())
        .param("owner", claim.owner.as_str())
        .param("most", i64::from(u32::MAX))
        .param("final", ended)
        .param("running", RunStatus::Running.as_str())
}

/// Gives a row if the lease is still of that epoch.
pub(super) fn renew(
    names: &Names,
    id: RunId,
    epoch: Epoch,
    until: Timestamp,
) -> Result<Statement, Trouble> {
    // No record has an epoch that no property can hold.
    let epoch = counter(epoch.0).map_err(|_| Trouble::Conflict)?;
    let old = |place: usize| format!("f.row[{place}]");
    let [waits, metadata, snapshot, inbox] =
        [WAITS, METADATA, SNAPSHOT_STAMP, INBOX_STAMP].map(old);
    let text = format!(
        "MATCH (f:{} {{id: $p.id}}) {LOCK} \
         WITH f WHERE f.epoch = $p.epoch AND f.leaseOwner IS NOT NULL \
         SET f.leaseUntil = $p.until SET f.dueAt = $p.until SET f.row = {} RETURN true AS done",
        names.run,
        row_of("f", &waits, &metadata, &snapshot, &inbox),
    );
    Ok(Statement::new(text)
        .param("id", id_text(id))
        .param("epoch", epoch)
        .param("until", until.as_millis()))
}

/// Finds and locks the node that a conditional write is about, and goes on if it is as expected.
fn expected(names: &Names) -> String {
    format!(
        "MATCH (f:{} {{id: $p.id}}) {LOCK} WITH f WHERE $p.expected IS NULL OR f.revision = $p.expected",
        names.run
    )
}

fn expectation(expect: Expect) -> Option<i64> {
    match expect {
        Expect::Any => None,
        // No record has a revision that no property can hold.
        Expect::Revision(revision) => Some(counter(revision.0).unwrap_or(-1)),
    }
}

/// Whether the relationship `w` and the link `l` are of the same wait.
const SAME_WAIT: &str = "w.wait = l.wait AND w.tool = l.tool AND w.createdAt = l.createdAt AND \
     coalesce(w.expiresAt = l.expiresAt, w.expiresAt IS NULL AND l.expiresAt IS NULL)";

fn unlink_waits(Names { waits_for, .. }: &Names) -> String {
    format!(
        " CALL (f, rewait) {{ \
           WITH f WHERE rewait MATCH (f)-[w:{waits_for}]->() \
           WHERE NOT any(l IN $p.waitLinks WHERE {SAME_WAIT}) DELETE w \
         }}"
    )
}

fn link_waits(Names { tool, waits_for, .. }: &Names) -> String {
    format!(
        " CALL (f, rewait) {{ \
           UNWIND CASE WHEN rewait THEN $p.waitLinks ELSE [] END AS l \
           WITH f, l WHERE NOT EXISTS {{ (f)-[w:{waits_for}]->() WHERE {SAME_WAIT} }} \
           MERGE (t:{tool} {{id: l.tool}}) \
           CREATE (f)-[:{waits_for} {{run: f.id, tool: l.tool, wait: l.wait, \
             createdAt: l.createdAt, expiresAt: l.expiresAt}}]->(t) \
         }}"
    )
}

/// Takes away the relationships that are not to be there any more, and the values that nobody has
/// any more: there may be one for every run. Two that let go of a value at the same moment leave it
/// behind, and whoever lets go of it next takes it away.
fn unlink_metadata(Names { has, .. }: &Names) -> String {
    format!(
        " CALL (f, retag) {{ \
           WITH f WHERE retag MATCH (f)-[h:{has}]->(m) \
           WHERE NOT any(l IN $p.metadataLinks WHERE l.entry = h.entry) \
           WITH h, m, COUNT {{ (m)<-[:{has}]-() }} AS holders \
           DELETE h \
           WITH m WHERE holders = 1 \
           SET m._lock = true REMOVE m._lock \
           WITH m WHERE NOT EXISTS {{ (m)<-[:{has}]-() }} \
           DELETE m \
         }}"
    )
}

fn link_metadata(Names { metadata, has, .. }: &Names) -> String {
    format!(
        " CALL (f, retag) {{ \
           UNWIND CASE WHEN retag THEN $p.metadataLinks ELSE [] END AS l \
           WITH f, l WHERE NOT EXISTS {{ (f)-[h:{has}]->() WHERE h.entry = l.entry }} \
           MERGE (m:{metadata} {{entry: l.entry}}) ON CREATE SET m.name = l.name, m.value = l.value \
           CREATE (f)-[:{has} {{run: f.id, entry: l.entry}}]->(m) \
         }}"
    )
}
