//! The lab hosts a real driver image: the `ipsecnic.sys` that `IPSECNIC_IMAGE` names.
//!
//! This test knows of that driver only that it is an Ethernet miniport; the driver's own tests are in
//! its own package.

use ndis_lab::{AdapterConfig, HaltAction, Lab, LoadError, Oid, SendNbl, loader::Image};

/// The image, or `None` where only native drivers are to be tested.
fn image() -> Option<Vec<u8>> {
    let Some(path) = std::env::var_os("IPSECNIC_IMAGE") else {
        assert!(
            std::env::var_os("IPSECNIC_NATIVE_ONLY").is_some_and(|value| value == "1"),
            "IPSECNIC_IMAGE names no driver image (cargo xtask image builds one); \
             set IPSECNIC_NATIVE_ONLY=1 to do without",
        );
        return None;
    };
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

#[test]
fn an_image_lives_a_whole_life_twice() {
    let Some(image) = image() else { return };
    let lab = Lab::new();
    for _ in 0..2 {
        let driver = lab.load_image(&image, "ipsecnic").unwrap();
        let mapped = driver.image().unwrap();
        assert!(mapped.sections().iter().all(|section| !(section.writable && section.executable)));
        assert!(driver.registered().unwrap().ndis_version >= 0x0006_001e);
        let one = driver.add_adapter(AdapterConfig::new()).unwrap();
        let two = driver.add_adapter(AdapterConfig::new()).unwrap();
        for adapter in [&one, &two] {
            for oid in adapter.attributes().general.supported_oids {
                for length in [0, 1, 3, 4, 8, 256] {
                    adapter.oid(Oid::query(oid, length)).unwrap();
                }
            }
            adapter.restart().unwrap();
        }
        let mut frame = vec![0xff; 6];
        frame.extend_from_slice(one.attributes().general.current_address());
        frame.extend_from_slice(&[0x88, 0xb5]);
        frame.resize(60, 0x5a);
        assert!(one.send(&[SendNbl::frame(frame)]).unwrap()[0].is_success());
        for adapter in [&one, &two] {
            adapter.pause().unwrap();
            adapter.halt(HaltAction::DeviceStopped).unwrap();
        }
        driver.unload().unwrap();
    }
    lab.assert_clean();
    assert!(lab.census().is_empty(), "{}", lab.census());
}

#[test]
fn every_truncation_is_refused() {
    let Some(image) = image() else { return };
    for length in (0..image.len()).step_by(97) {
        let result = Image::load(&image[..length], |_, _| Some(0x1000));
        // Only what follows the last section (nothing that is mapped) may be missing.
        if let Ok(mapped) = result {
            assert!(image.len() - length < 4096 && mapped.size() > 0, "{length} of {}", image.len());
        }
    }
    let missing = Image::load(&image, |_, _| None).unwrap_err();
    let LoadError::MissingImports(all) = missing else { panic!("{missing}") };
    assert!(all.iter().any(|import| import.name == "NdisMRegisterMiniportDriver"));
}
