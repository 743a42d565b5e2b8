//! The examples as users run them: the Rust programs in processes of their own, the documents
//! through the library.

mod documents;
mod programs;
