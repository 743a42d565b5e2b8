//! From a function to the function and its tool.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, Item, ItemFn, Lit, Meta, Result, ReturnType, Safety,
    Type, ext::IdentExt, spanned::Spanned,
};

use crate::options::Options;

/// The function and its tool; or the function and what is wrong with it, so that nothing else
/// that is wrong is the attribute's fault.
pub(crate) fn expand(options: TokenStream, item: &TokenStream) -> TokenStream {
    let tool = syn::parse2(options).and_then(|options| {
        let function = match syn::parse2(item.clone())? {
            Item::Fn(function) => function,
            other => return Err(Error::new(other.span(), "`#[tool]` goes on a function")),
        };
        make(&options, &function)
    });
    let tool = tool.unwrap_or_else(Error::into_compile_error);
    quote!(#item #tool)
}

fn make(options: &Options, function: &ItemFn) -> Result<TokenStream> {
    let signature = Signature::of(function)?;
    let name = &function.sig.ident;
    let tool = type_name(name)?;
    let visibility = &function.vis;
    let cfgs: Vec<&Attribute> =
        function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let docs: Vec<&Attribute> =
        function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).collect();
    let id = options.id.as_ref().map_or_else(|| name.unraw().to_string(), |id| id.value());
    let label = options.name.iter().map(|label| quote!(.name(#label)));
    let description = description(&docs);
    let description = (!description.is_empty()).then(|| quote!(.description(#description)));
    let effect = options.effect.then(|| quote!(.effect()));

    let library =
        options.library.as_ref().map_or_else(|| quote!(::dynamic_flow), |path| quote!(#path));
    let Signature { input, output, .. } = &signature;
    let returned = quote_spanned!(output.span()=> <#output as #library::tool::ToolReturn>::Value);
    let made = from_closure(options, &signature, function, &id)?;

    Ok(quote! {
        #(#cfgs)*
        #(#docs)*
        #[derive(
            ::core::fmt::Debug,
            ::core::clone::Clone,
            ::core::marker::Copy,
            ::core::default::Default,
        )]
        #visibility struct #tool;

        #(#cfgs)*
        impl #library::TypedTool for #tool {
            type Input = #input;
            type Output = #returned;

            fn into_tool(self) -> #library::Result<::std::sync::Arc<dyn #library::Tool>> {
                #library::TypedTool::into_tool(
                    #library::tool::#made #(#label)* #description #effect
                )
            }
        }
    })
}

/// What makes a tool of a closure that calls the function, in the library's module `tool`.
fn from_closure(
    options: &Options,
    signature: &Signature,
    function: &ItemFn,
    id: &str,
) -> Result<TokenStream> {
    let name = &function.sig.ident;
    let is_async = function.sig.asyncness.is_some();
    let Signature { input, takes_input, takes_context, .. } = signature;
    // Names of their own: the function may be called like one of them.
    let input_name = Ident::new("input", Span::mixed_site());
    let context_name = Ident::new("context", Span::mixed_site());
    let input_argument = takes_input.then(|| quote!(#input_name,));
    let context_argument = takes_context.then(|| quote!(&#context_name));
    let input_name = if *takes_input { quote!(#input_name) } else { quote!(_) };
    let context_name = if *takes_context { quote!(#context_name) } else { quote!(_) };
    let call = quote!(#name(#input_argument #context_argument));
    Ok(match options.blocking {
        Some(blocking) if is_async => {
            let message = "an async function blocks nothing: leave `blocking` or `async` out";
            return Err(Error::new(blocking, message));
        }
        Some(_) => {
            quote!(FnTool::blocking(#id, |#input_name: #input, #context_name| #call))
        }
        None => {
            let call = if is_async { quote!(#call.await) } else { call };
            if *takes_context {
                quote!(FnTool::with_context(
                    #id,
                    |#input_name: #input, #context_name| async move { #call },
                ))
            } else {
                quote!(tool_fn(#id, |#input_name: #input| async move { #call }))
            }
        }
    })
}

/// What the tool takes and gives.
struct Signature {
    input: Type,
    output: Type,
    takes_input: bool,
    takes_context: bool,
}

impl Signature {
    fn of(function: &ItemFn) -> Result<Self> {
        let signature = &function.sig;
        if let Some(receiver) = signature.receiver() {
            let message = "`#[tool]` goes on a free function: a tool has no `self`";
            return Err(Error::new(receiver.span(), message));
        }
        if !signature.generics.params.is_empty() {
            let message = "a tool has no type parameters or lifetimes: its types are its schemas";
            return Err(Error::new(signature.generics.span(), message));
        }
        if !matches!(signature.safety, Safety::Default) {
            return Err(Error::new(signature.safety.span(), "a tool is safe to call"));
        }
        let ReturnType::Type(_, output) = &signature.output else {
            let message = "a tool returns a `Result`: add `-> Result<…, ToolError>`";
            return Err(Error::new(signature.ident.span(), message));
        };
        let mut types = signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some(&*argument.ty),
            FnArg::Receiver(_) => None,
        });
        let (first, second, third) = (types.next(), types.next(), types.next());
        if let Some(third) = third {
            let message = "a tool takes one input, and `&ToolContext` if it likes; \
                           put several inputs in a struct or a tuple";
            return Err(Error::new(third.span(), message));
        }
        let (input, context) = match (first, second) {
            (Some(only), None) if is_context(only) => (None, Some(only)),
            (first, second) => (first, second),
        };
        if let Some(context) = context
            && !is_context(context)
        {
            let message = "the second argument of a tool is `&ToolContext`; \
                           put several inputs in a struct or a tuple";
            return Err(Error::new(context.span(), message));
        }
        match input {
            Some(Type::Reference(reference)) => {
                Err(Error::new(reference.span(), "a tool takes its input by value"))
            }
            Some(Type::ImplTrait(opaque)) => {
                let message = "a tool names the type of its input: it is its schema";
                Err(Error::new(opaque.span(), message))
            }
            _ => Ok(()),
        }?;
        Ok(Self {
            takes_input: input.is_some(),
            takes_context: context.is_some(),
            input: input.cloned().unwrap_or_else(|| syn::parse_quote!(())),
            output: (**output).clone(),
        })
    }
}

/// Whether it is `&ToolContext`, however the path to it is written.
fn is_context(argument: &Type) -> bool {
    let Type::Reference(reference) = argument else { return false };
    let Type::Path(path) = &*reference.elem else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "ToolContext")
}

/// `ValidateOrder` for `validate_order`.
fn type_name(function: &Ident) -> Result<Ident> {
    let name = function.unraw().to_string();
    let mut camel = String::new();
    for word in name.split('_') {
        let mut letters = word.chars();
        camel.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        camel.push_str(letters.as_str());
    }
    if camel == name || syn::parse_str::<Ident>(&camel).is_err() {
        let message = format!(
            "a tool's function has a name in snake_case: `{name}` makes no other name in CamelCase"
        );
        return Err(Error::new(function.span(), message));
    }
    Ok(format_ident!("{camel}", span = function.span()))
}

/// The text of doc comments, without the space that follows `///`.
fn description(docs: &[&Attribute]) -> String {
    let lines = docs.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<String> =
        lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_path_that_it_is_given_names_the_library() {
        let item = quote! {
            fn charge(cents: u32, context: &ToolContext) -> Result<String, CardError> {}
        };
        for options in [quote!(), quote!(blocking, effect, id = "a", name = "b")] {
            let here = expand(options.clone(), &item).to_string();
            assert!(here.contains(":: dynamic_flow :: TypedTool"), "{here}");
            let renamed = expand(quote!(crate = "facade::flows", #options), &item).to_string();
            assert!(!renamed.contains("dynamic_flow"), "{renamed}");
            assert_eq!(here.replace(":: dynamic_flow", "facade :: flows"), renamed);
        }
    }
}
