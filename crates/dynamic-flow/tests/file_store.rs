//! The filesystem store: what is particular to it, beyond the suite that all stores pass.

mod file_store {
    pub(crate) mod support;

    mod folder;
    mod index;
    mod processes;
    mod records;
}
