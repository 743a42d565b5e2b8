//! What stands in the brackets: `#[tool(effect, id = "…", name = "…")]`.

use proc_macro2::Span;
use syn::{
    Error, Ident, LitStr, Path, Result, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
};

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) effect: bool,
    /// Where it says so.
    pub(crate) blocking: Option<Span>,
    pub(crate) id: Option<LitStr>,
    pub(crate) name: Option<LitStr>,
    /// Where the library is, if it is not `::dynamic_flow`.
    pub(crate) library: Option<Path>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let is_crate = input.peek(Token![crate]);
            let option: Ident =
                if is_crate { input.call(Ident::parse_any)? } else { input.parse()? };
            let twice = match option.to_string().as_str() {
                "effect" => std::mem::replace(&mut options.effect, true),
                "blocking" => options.blocking.replace(option.span()).is_some(),
                "id" => options.id.replace(text(input)?).is_some(),
                "name" => options.name.replace(text(input)?).is_some(),
                "crate" => options.library.replace(path(input)?).is_some(),
                other => {
                    let message = format!(
                        "unknown option `{other}`; there are `effect`, `blocking`, `id`, `name` and \
                         `crate`"
                    );
                    return Err(Error::new(option.span(), message));
                }
            };
            if twice {
                return Err(Error::new(option.span(), format!("`{option}` is there twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn text(input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    let text: LitStr = input.parse()?;
    if text.value().is_empty() {
        return Err(Error::new(text.span(), "must not be empty"));
    }
    Ok(text)
}

fn path(input: ParseStream<'_>) -> Result<Path> {
    let text = text(input)?;
    text.parse_with(Path::parse_mod_style)
        .map_err(|_| Error::new(text.span(), "must be a path, as in `crate = \"facade::flows\"`"))
}
