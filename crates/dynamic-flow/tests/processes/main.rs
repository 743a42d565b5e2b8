//! What holds between processes: kill -9 at every call of the store, races on one key, holders
//! that freeze, several workers, and a deploy in between.
//!
//! Most processes are this very program, started again for one test that does nothing else.

mod deploy;
mod frozen;
mod kill;
mod race;
mod shared;
mod support;
mod workers;

/// The entry of a process that a test started; does nothing in a run of the tests.
#[test]
fn as_a_process_of_another_test() {
    let Some(role) = support::role() else { return };
    match role.as_str() {
        "client" => support::run(kill::client()),
        "racer" => support::run(race::racer()),
        "holder" => support::run(frozen::holder()),
        "worker" => support::run(workers::worker()),
        "user" => support::run(shared::user()),
        "newcomer" => support::run(shared::newcomer()),
        role => panic!("no process has the role {role:?}"),
    }
}
