//! Where in a user's code which quantity is logged: what makes a repeated `self.log` a table look-up.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// The arguments of `self.log` that make a quantity what it is, besides its name.
pub const OPTIONS: usize = 11;

/// Such arguments as they came at the last call that was looked at in full.
pub struct Options([Py<PyAny>; OPTIONS]);

impl Options {
    /// The arguments in a tuple.
    pub fn from_tuple(options: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let all: Vec<Py<PyAny>> = options.iter().map(Bound::unbind).collect();
        let all = all.try_into().map_err(|_| PyValueError::new_err(format!("there are {OPTIONS} options")))?;
        Ok(Self(all))
    }

    /// The very same objects? Others may be equal, which only the long way finds out.
    #[inline]
    fn are(&self, given: &[&Bound<'_, PyAny>; OPTIONS]) -> bool {
        self.0.iter().zip(given).all(|(own, given)| own.is(*given))
    }
}

struct Site {
    slot: usize,
    weighted: bool,
    options: Options,
}

/// The names of one hook in one stage, for one loader.
struct Table {
    stage: u32,
    loader: Option<u32>,
    hook: Py<PyAny>,
    names: Py<PyDict>,
}

/// All quantities that are known.
#[derive(Default)]
pub struct Sites {
    /// The stage in which hooks run now.
    pub stage: u32,
    /// The loader whose batch is in hand, where there are several.
    pub loader: Option<u32>,
    tables: Vec<Table>,
    sites: Vec<Site>,
    /// The table of the last call: most calls come from the same hook as the one before.
    last: Option<usize>,
}

impl Sites {
    /// Stage or loader are others now.
    pub fn moved(&mut self) {
        self.last = None;
    }

    fn table(&mut self, hook: &Bound<'_, PyAny>) -> Option<usize> {
        if let Some(last) = self.last
            && self.tables[last].hook.is(hook)
        {
            return self.last;
        }
        // names of hooks are literals, so that the same name is the same object; if not, the long way makes one more table
        self.last = self
            .tables
            .iter()
            .position(|table| table.hook.is(hook) && table.stage == self.stage && table.loader == self.loader);
        self.last
    }

    /// Slot of a known quantity, and whether its values are weighted.
    #[inline]
    pub fn find(
        &mut self,
        hook: &Bound<'_, PyAny>,
        name: &Bound<'_, PyAny>,
        options: &[&Bound<'_, PyAny>; OPTIONS],
    ) -> PyResult<Option<(usize, bool)>> {
        let Some(table) = self.table(hook) else { return Ok(None) };
        let Some(index) = self.tables[table].names.bind(hook.py()).get_item(name)? else { return Ok(None) };
        let site = &self.sites[index.extract::<usize>()?];
        Ok(site.options.are(options).then_some((site.slot, site.weighted)))
    }

    /// Makes a quantity known, or known with other options.
    pub fn add(
        &mut self,
        hook: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        slot: usize,
        weighted: bool,
        options: Options,
    ) -> PyResult<()> {
        let py = hook.py();
        let table = match self.table(hook) {
            Some(table) => table,
            None => {
                let (hook, names) = (hook.clone().unbind(), PyDict::new(py).unbind());
                self.tables.push(Table { stage: self.stage, loader: self.loader, hook, names });
                self.tables.len() - 1
            }
        };
        let names = self.tables[table].names.bind(py);
        let site = Site { slot, weighted, options };
        match names.get_item(name)? {
            Some(index) => self.sites[index.extract::<usize>()?] = site,
            None => {
                names.set_item(name, self.sites.len())?;
                self.sites.push(site);
            }
        }
        Ok(())
    }

    /// For Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for table in &self.tables {
            visit.call(&table.hook)?;
            visit.call(&table.names)?;
        }
        self.sites.iter().flat_map(|site| &site.options.0).try_for_each(|option| visit.call(option))
    }
}
