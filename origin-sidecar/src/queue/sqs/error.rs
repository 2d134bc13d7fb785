//! Errors of the SDK as short, stable names.

use crate::queue::QueueError;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::fmt::Debug;

/// The name of an error that SQS answered for one call or one entry of a batch.
pub(super) fn name(code: &str) -> &'static str {
    // The older protocol's codes come as `AWS.SimpleQueueService.…`.
    let code = code.rsplit('.').next().unwrap_or(code);
    match code {
        "QueueDoesNotExist" | "NonExistentQueue" => "queue-missing",
        "ReceiptHandleIsInvalid" | "MessageNotInflight" => "receipt-stale",
        "RequestThrottled"
        | "ThrottlingException"
        | "Throttling"
        | "KmsThrottled"
        | "OverLimit" => "throttled",
        "AccessDenied"
        | "AccessDeniedException"
        | "KmsAccessDenied"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSecurity"
        | "ExpiredToken"
        | "ExpiredTokenException" => "denied",
        "BatchRequestTooLong" | "MessageTooLong" => "message-too-large",
        "InvalidMessageContents" => "message-illegal",
        "InternalError" | "InternalFailure" | "ServiceUnavailable" => "unavailable",
        _ => "refused",
    }
}

/// Any call's error.
pub(super) fn of<E, R>(error: &SdkError<E, R>) -> QueueError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
{
    let name = match error {
        SdkError::TimeoutError(_) => "timeout",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "timeout",
        SdkError::DispatchFailure(failure) if failure.is_io() => "unreachable",
        // No credentials, as a rule.
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => "not-sent",
        SdkError::ServiceError(service) => service.err().code().map_or("refused", name),
        // The answer made no sense: a proxy's page, or cut off.
        _ => "unavailable",
    };
    QueueError { name, detail: DisplayErrorContext(error).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_codes_have_one_name() {
        for (code, expected) in [
            ("AWS.SimpleQueueService.NonExistentQueue", "queue-missing"),
            ("QueueDoesNotExist", "queue-missing"),
            ("AWS.SimpleQueueService.MessageNotInflight", "receipt-stale"),
            ("ReceiptHandleIsInvalid", "receipt-stale"),
            ("ThrottlingException", "throttled"),
            ("SomethingNew", "refused"),
        ] {
            assert_eq!(name(code), expected, "{code}");
        }
    }
}
