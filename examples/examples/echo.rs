//! A TCP server that sends back whatever it receives: `echo ADDR`. Prints its address.

use std::error::Error;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).ok_or("usage: echo ADDR")?;
    let listener = TcpListener::bind(addr)?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    for connection in listener.incoming() {
        let connection = connection?;
        thread::spawn(move || {
            if let Err(error) = echo(&connection) {
                writeln!(io::stderr(), "echo: {error}")
            } else {
                Ok(())
            }
        });
    }
    Ok(())
}

fn echo(mut connection: &TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    io::copy(&mut BufReader::with_capacity(256 * 1024, connection), &mut connection)?;
    connection.shutdown(Shutdown::Write)
}
