//! What Pingora asks of a connection beside its bytes: one that is around another one answers as that one does.

/// Implements those questions for a type whose field `inner` is a `Stream`. The closure says which protocol was
/// agreed on (ALPN).
macro_rules! answer_as_inner {
    ($outer:ty, $alpn:expr) => {
        #[async_trait::async_trait]
        impl pingora_core::protocols::Shutdown for $outer {
            async fn shutdown(&mut self) {
                pingora_core::protocols::Shutdown::shutdown(&mut *self.inner).await;
            }
        }

        #[async_trait::async_trait]
        impl pingora_core::protocols::Peek for $outer {
            /// What is peeked is read again later, and must be seen once only.
            async fn try_peek(&mut self, into: &mut [u8]) -> std::io::Result<bool> {
                self.inner.try_peek(into).await
            }
        }

        impl pingora_core::protocols::UniqueID for $outer {
            fn id(&self) -> pingora_core::protocols::UniqueIDType {
                self.inner.id()
            }
        }

        impl pingora_core::protocols::Ssl for $outer {
            fn get_ssl_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora_core::protocols::tls::SslDigest>> {
                self.inner.get_ssl_digest()
            }

            fn selected_alpn_proto(&self) -> Option<pingora_core::protocols::ALPN> {
                let alpn: fn(&$outer) -> _ = $alpn;
                alpn(self)
            }
        }

        impl pingora_core::protocols::GetTimingDigest for $outer {
            fn get_timing_digest(&self) -> Vec<Option<pingora_core::protocols::TimingDigest>> {
                self.inner.get_timing_digest()
            }

            fn get_read_pending_time(&self) -> std::time::Duration {
                self.inner.get_read_pending_time()
            }

            fn get_write_pending_time(&self) -> std::time::Duration {
                self.inner.get_write_pending_time()
            }
        }

        impl pingora_core::protocols::GetProxyDigest for $outer {
            fn get_proxy_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora_core::protocols::raw_connect::ProxyDigest>> {
                self.inner.get_proxy_digest()
            }
        }

        impl pingora_core::protocols::GetSocketDigest for $outer {
            fn get_socket_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora_core::protocols::SocketDigest>> {
                self.inner.get_socket_digest()
            }
        }
    };
}

pub(super) use answer_as_inner;
