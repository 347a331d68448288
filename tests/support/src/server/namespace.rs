//! Runs tests in their own network namespace. The namespace has only a loopback interface with the MTU of a real path.

use std::env;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;

use super::poll_until;
use super::spoofing::ip;

/// The environment variable that is set in the process inside the namespace.
const INSIDE: &str = "JAMJAM_TEST_NAMESPACE";

/// Runs `body`, a closure in a test function, in a new network namespace, by running that test again inside it. If the system does not
/// permit namespaces, prints a line and skips the test.
pub fn in_network_namespace<F: FnOnce()>(body: F) {
    // The type name has the form `program::module::test::{{closure}}`.
    let path = std::any::type_name::<F>();
    let test =
        path.split_once("::").and_then(|(_, path)| path.strip_suffix("::{{closure}}")).expect("a closure of a test");
    if env::var_os(INSIDE).is_some() {
        set_up_loopback("1500");
        return body();
    }
    // Root needs no user namespace. Other users need a user namespace in which they are root. Some systems do not permit that.
    let permitted =
        |flag: &&str| Command::new("unshare").args([flag, "true"]).output().is_ok_and(|o| o.status.success());
    let Some(flag) = ["-n", "-rn"].into_iter().find(permitted) else {
        // This bypasses the test runner's capture, which hides the output of passing tests.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no network namespaces here (unshare -n, unshare -rn)");
        return;
    };
    let this = env::current_exe().unwrap();
    let arguments = ["--exact", test, "--include-ignored", "--nocapture"];
    let ran = Command::new("unshare").arg(flag).arg(this).args(arguments).env(INSIDE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "inside the namespace: {out}{err}");
    assert!(out.contains("1 passed"), "no test is called {test}: {out}");
}

fn set_up_loopback(mtu: &str) {
    ip(&["link", "set", "lo", "up", "mtu", mtu]);
    if fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|text| text.trim() == "0") {
        await_route_to(Ipv6Addr::LOCALHOST);
    }
}

/// Adds an address to the loopback interface. The address is usable as soon as this function returns.
pub fn add_address(address: IpAddr) {
    ip(&["address", "add", &address.to_string(), "dev", "lo"]);
    if let IpAddr::V6(address) = address {
        await_route_to(address);
    }
}

/// Waits until a new address is usable. The kernel acknowledges the request earlier, when a socket would still have no route.
fn await_route_to(address: Ipv6Addr) {
    let address = format!("{:032x}", u128::from(address));
    poll_until("a route to a new address", || {
        let routes = fs::read_to_string("/proc/net/ipv6_route").ok()?;
        // Destination, prefix length, ..., flags (the first bit is RTF_LOCAL), interface.
        let is_local = |line: &str| {
            line.starts_with(&address) && line.split_whitespace().nth(8).is_some_and(|flags| flags.starts_with('8'))
        };
        routes.lines().any(is_local).then_some(())
    });
}
