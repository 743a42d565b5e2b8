//! The program as its users run it: every call is a process of its own.

mod answers;
mod flows;
mod inspect;
mod interrupt;
mod keys;
mod manage;
#[cfg(unix)]
mod narrow;
mod runs;
mod servers;
mod stores;
mod support;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod tty;
mod usage;
