//! ccgateway-bridge
