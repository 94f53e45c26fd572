//! Where requests are counted. Those of one connection mostly go to one endpoint and end alike, so that the last one's series
//! is the next one's as well, and its labels need not be looked up.

use std::sync::{Arc, Weak};

use ambit_core::model::{Service, Workload};
use ambit_telemetry::metrics::{RequestSeries, Requests};
use parking_lot::Mutex;

use super::Record;

/// The series of the last request of a connection.
#[derive(Debug, Default)]
pub(crate) struct LastSeries(Mutex<Option<Last>>);

/// Nothing of it keeps what is gone.
#[derive(Debug)]
struct Last {
    /// Of all series, when this one was looked up.
    retirements: u64,
    endpoint: Weak<Workload>,
    service: Weak<Service>,
    of: Ended,
    series: Weak<RequestSeries>,
}

/// What else tells the series of one connection apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    tunnel: bool,
    grpc: bool,
    status: u16,
    grpc_status: Option<u8>,
    flags: &'static str,
}

impl Last {
    /// The same objects: an allocation that is held weakly is given to no other.
    fn is(&self, record: &Record) -> bool {
        fn same<T>(weak: &Weak<T>, arc: Option<&Arc<T>>) -> bool {
            match arc {
                Some(arc) => std::ptr::eq(weak.as_ptr(), Arc::as_ptr(arc)),
                None => weak.ptr_eq(&Weak::new()),
            }
        }
        let endpoint = record.endpoint.as_ref().map(|it| &it.workload);
        self.of == Ended::of(record)
            && same(&self.endpoint, endpoint)
            && same(&self.service, record.service.as_ref())
    }
}

impl Ended {
    fn of(record: &Record) -> Self {
        let endpoint = record.endpoint.as_ref();
        Self {
            tunnel: endpoint.is_some_and(|it| it.tunnel.is_some()),
            grpc: record.grpc,
            status: record.status,
            grpc_status: record.grpc_status,
            flags: record.flag.as_str(),
        }
    }
}

impl LastSeries {
    /// The series of a request of this connection.
    pub(super) fn of(&self, record: &Record, all: &Requests) -> Arc<RequestSeries> {
        let retirements = all.retirements();
        let mut last = self.0.lock();
        let known = last.as_ref().filter(|last| last.retirements == retirements);
        if let Some(last) = known.filter(|last| last.is(record))
            && let Some(series) = last.series.upgrade()
        {
            return series;
        }
        let series = all.series(&record.labels());
        let endpoint = record.endpoint.as_ref().map(|it| &it.workload);
        *last = Some(Last {
            retirements,
            endpoint: endpoint.map(Arc::downgrade).unwrap_or_default(),
            service: record
                .service
                .as_ref()
                .map(Arc::downgrade)
                .unwrap_or_default(),
            of: Ended::of(record),
            series: Arc::downgrade(&series),
        });
        series
    }
}
