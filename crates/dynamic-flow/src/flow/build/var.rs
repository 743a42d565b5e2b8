//! Typed variables of flows.

use std::{fmt, marker::PhantomData};

/// A variable of a flow, and the type of what it is set to.
///
/// ```
/// use dynamic_flow::{Flow, flow::Var};
///
/// const CUSTOMER: Var<String> = Var::new("customer");
///
/// let flow = Flow::input::<(String, f64)>("remember")
///     .set(&CUSTOMER, |(customer, _)| customer.clone())
///     .map("total", |(_, total)| total)
///     .keep(|total| total.get(&CUSTOMER))
///     .build()?;
/// # let _: Flow<(String, f64), (f64, String)> = flow;
/// # Ok::<(), dynamic_flow::Error>(())
/// ```
pub struct Var<T> {
    name: &'static str,
    types: PhantomData<fn() -> T>,
}

impl<T> Var<T> {
    /// The variable of that name. Two of one name are one variable: give them one type.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for Var<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Var<T> {}

impl<T> fmt::Debug for Var<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Var({})", self.name)
    }
}
