//! The lab hosts a driver that nobody here wrote, unmodified.
mod registry;
use ndis_lab::device::*;
use ndis_lab::*;

#[test]
fn it_lives() {
    let package = registry::wintun();
    let lab = Lab::new();
    let driver = lab.load_image(&package.image, "wintun").unwrap();
    eprintln!("{:x?}", driver.registered());
    let adapter = match driver.add_adapter(AdapterConfig::new()) {
        Ok(a) => a,
        Err(e) => {
            for v in lab.violations() {
                eprintln!("{v}");
            }
            panic!("{e}")
        }
    };
    for oid in adapter.attributes().general.supported_oids {
        let r = adapter.oid(Oid::query(oid, 256)).unwrap();
        eprintln!("{oid:#x} {r:?}");
    }
    adapter.restart().unwrap();
    adapter.pause().unwrap();
    adapter.halt(HaltAction::DeviceStopped).unwrap();
    driver.unload().unwrap();
    for v in lab.violations() {
        eprintln!("{v}");
    }
    eprintln!("{}", lab.census());
}
