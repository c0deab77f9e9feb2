//! nginx: as the gateway, which answers all requests alike over TLS, and as a plain proxy in front of it, which reads
//! neither gRPC nor what the gateway answers.
//!
//! It is one process without a master, so that none is left when it is ended.

use std::{fs, path::Path, process::Command};

use crate::{
    Failure,
    load::ANSWER,
    process::Running,
    site::{GUID, free_port, serving},
};

/// A running nginx, and its port.
pub(crate) struct Nginx {
    pub(crate) running: Running,
    pub(crate) port: u16,
}

impl Nginx {
    /// Starts the gateway by this command, with the certificate in the folder.
    pub(crate) async fn gateway(command: Command, folder: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let server = format!(
            "server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate cert.pem;
                ssl_certificate_key key.pem;
                ssl_protocols TLSv1.3;
                default_type application/json;
                location / {{ return 200 '{ANSWER}'; }}
            }}"
        );
        Self::start(command, folder, ("gateway", port), &server).await
    }

    /// Starts a proxy in front of the gateway at this port. It drops the message and sends the request that the bridge
    /// sends for one agent, so that the gateway has the same work.
    pub(crate) async fn proxy(
        command: Command,
        folder: &Path,
        gateway: u16,
    ) -> Result<Self, Failure> {
        let port = free_port()?;
        let server = format!(
            "upstream gateway {{
                server 127.0.0.1:{gateway};
                keepalive 2048;
                keepalive_requests 1000000000;
                keepalive_time 24h;
                keepalive_timeout 1h;
            }}
            server {{
                listen 127.0.0.1:{port} http2;
                http2_max_concurrent_streams 1024;
                location = /ccgateway.agent.v1.AgentState/SetBusy {{
                    proxy_pass https://gateway/agentgateway/resource/onlineagent/1001/saybusy?reason=200&prolong=true;
                    proxy_http_version 1.1;
                    proxy_pass_request_body off;
                    proxy_set_header Connection '';
                    proxy_set_header Host localhost;
                    proxy_set_header Guid {GUID};
                    proxy_set_header Content-Type 'application/json; charset=UTF-8';
                    proxy_set_header Content-Length 0;
                    proxy_set_header TE '';
                    proxy_ssl_protocols TLSv1.3;
                    proxy_ssl_name localhost;
                    proxy_ssl_server_name on;
                    proxy_ssl_verify on;
                    proxy_ssl_trusted_certificate cert.pem;
                }}
            }}"
        );
        Self::start(command, folder, ("proxy", port), &server).await
    }

    async fn start(
        mut command: Command,
        folder: &Path,
        (name, port): (&'static str, u16),
        servers: &str,
    ) -> Result<Self, Failure> {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|what| format!("{what}_temp_path {name}-{what};\n")).concat();
        let text = format!(
            "daemon off;
            master_process off;
            pid {name}.pid;
            events {{ worker_connections 8192; }}
            http {{
                access_log off;
                keepalive_timeout 1h;
                keepalive_requests 1000000000;
                keepalive_time 24h;
                {temporary}
                {servers}
            }}\n"
        );
        let [config, errors] = ["conf", "err"].map(|kind| folder.join(format!("{name}.{kind}")));
        fs::write(&config, text)?;
        command.arg("-p").arg(folder).arg("-e").arg(&errors).arg("-c").arg(&config);
        let mut running = Running::start(&mut command)?;
        let started = serving(&mut running, port).await;
        if started.is_err() {
            return Err(format!("nginx: {}", fs::read_to_string(errors)?).into());
        }
        Ok(Self { running, port })
    }
}
