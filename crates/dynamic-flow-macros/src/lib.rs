//! The `#[tool]` attribute of dynamic-flow, which re-exports and documents it.

mod expand;
mod options;

use proc_macro::TokenStream;

#[proc_macro_attribute]
#[expect(missing_docs, reason = "it is documented where its examples run: on the re-export")]
pub fn tool(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), &item.into()).into()
}
