//! Errors of the SDK as short, stable names.

use crate::queue::QueueError;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use net::https::chain;
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

/// The name and the detail of any call's error.
pub(super) fn of<E, R>(error: &SdkError<E, R>) -> QueueError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
{
    let name = match error {
        SdkError::TimeoutError(_) => "timeout",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "timeout",
        SdkError::DispatchFailure(failure) if failure.is_io() => "unreachable",
        // Usually there are no credentials.
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => "not-sent",
        SdkError::ServiceError(service) => service.err().code().map_or("refused", name),
        // The answer could not be parsed: it is a proxy's page, or was cut off.
        _ => "unavailable",
    };
    QueueError { name, detail: detail(error) }
}

/// What SQS said, with the id of the request for a question to its support; otherwise the error with its
/// causes.
fn detail<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
{
    let SdkError::ServiceError(service) = error else { return chain(error) };
    let said = service.err().meta();
    let (code, message) =
        (said.code().unwrap_or("no code"), said.message().unwrap_or("no message"));
    let request = said.extra("aws_request_id").unwrap_or("unknown");
    format!("{code}: {message} (request {request})")
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

    #[test]
    fn an_operator_reads_what_sqs_said_and_nothing_of_how_this_program_is_made() {
        use aws_sdk_sqs::error::ErrorMetadata;
        use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
        let said = ErrorMetadata::builder()
            .code("QueueDoesNotExist")
            .message("The specified queue does not exist.")
            .custom("aws_request_id", "r-1")
            .build();
        let error = SdkError::service_error(GetQueueAttributesError::generic(said), ());
        let QueueError { name, detail } = of(&error);
        assert_eq!(name, "queue-missing");
        let wanted = "QueueDoesNotExist: The specified queue does not exist. (request r-1)";
        assert_eq!(detail, wanted);
    }
}
