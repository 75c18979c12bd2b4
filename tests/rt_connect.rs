//! Connecting with options and to Unix sockets, and alarms to the nanosecond: on a real kernel.

mod rt_support;

use std::io::Read;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rt_support::*;
use ucaffeine::rt::net::{ConnectOptions, TcpStream, is_paced, set_notsent_lowat};
use ucaffeine::rt::time::{self, Instant};
use ucaffeine::rt::{self, select2};

#[test]
fn a_connection_comes_from_the_source_that_was_asked_for() {
    on_core(small(), || async {
        let (listener, addr) = listen();
        let source: IpAddr = "127.9.8.7".parse().unwrap();
        let client = TcpStream::connect_with(addr, ConnectOptions::new().source(Some(source))).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!(server.peer_addr().await.unwrap().ip(), source);
        assert_eq!(client.local_addr().await.unwrap().ip(), source);
    });
}

#[test]
fn a_socket_is_paced_where_bbr_is_its_congestion_control() {
    use rustix::net::sockopt::set_tcp_congestion;
    let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
    let socket = std::os::fd::OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    assert!(!is_paced(&socket), "not TCP's");
    assert_eq!(set_notsent_lowat(&socket, 1).unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
    let socket = std::os::fd::OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let (unix, _) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(set_notsent_lowat(&unix.into(), 1).unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    for name in allowed.split_ascii_whitespace() {
        set_tcp_congestion(&socket, name).unwrap();
        assert_eq!(is_paced(&socket), name.starts_with("bbr"), "{name}");
        set_notsent_lowat(&socket, 128 << 10).expect("it is TCP's");
    }
}

#[test]
fn a_source_that_is_not_ours_is_refused_and_leaves_nothing() {
    on_core(small(), || async {
        let (_listener, addr) = listen();
        turns(2).await;
        let before = gauges();
        let nobody = ConnectOptions::new().source(Some("192.0.2.1".parse().unwrap()));
        let refused = TcpStream::connect_with(addr, nobody).await.err().unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        until_as_before(before).await;
    });
}

#[test]
fn nodelay_is_set_where_it_was_asked_for() {
    on_core(small(), || async {
        let (_listener, addr) = listen();
        for wanted in [false, true] {
            let stream = TcpStream::connect_with(addr, ConnectOptions::new().nodelay(wanted)).await.unwrap();
            let installed = stream.install().await.unwrap();
            assert_eq!(rustix::net::sockopt::tcp_nodelay(installed.as_fd()).unwrap(), wanted);
        }
    });
}

#[test]
fn unix_sockets_are_connected_to_by_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    on_core(small(), move || async move {
        let stream = TcpStream::connect_unix(&path).await.unwrap();
        stream.write_all("hello").await.0.unwrap();
        let mut got = [0; 5];
        listener.accept().unwrap().0.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        let absent = TcpStream::connect_unix(&directory.path().join("absent")).await.err().unwrap();
        assert_eq!(absent.raw_os_error(), Some(libc::ENOENT));
        let long = TcpStream::connect_unix(std::path::Path::new(&"x".repeat(108))).await.err().unwrap();
        assert_eq!(long.raw_os_error(), Some(libc::ENAMETOOLONG));
    });
}

#[test]
fn an_alarm_is_never_early_and_spinning_is_counted() {
    on_core(small().spin(Duration::from_micros(200)), || async {
        for micros in [0, 1, 10, 100, 1_500] {
            let until = Instant::fresh() + Duration::from_micros(micros);
            time::alarm(until).await;
            assert!(Instant::now() >= until);
        }
        assert!(rt::stats().spun_ns > 0);
    });
}

#[test]
fn an_alarm_that_was_dropped_wakes_nobody() {
    on_core(small(), || async {
        let far = time::alarm(Instant::fresh() + Duration::from_secs(3600));
        let near = time::alarm(Instant::fresh() + Duration::from_micros(50));
        select2(far, near).await;
        // Nothing but the wheel's own timer is left, or this would wait for an hour.
        time::sleep(Duration::from_millis(1)).await;
    });
}
