package cir.client;

import cir.common.v1.ErrorReason;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/** A failed call. The cause is gRPC's exception. */
public final class CirException extends RuntimeException {
  private static final long serialVersionUID = 1;
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  private final Status.Code code;
  private final String requestId;
  private String reason = "";
  private String field = "";
  private Duration retryAfter = Duration.ZERO;
  private Map<String, String> metadata = Map.of();

  private CirException(StatusRuntimeException failed) {
    super(message(failed.getStatus()), failed);
    code = failed.getStatus().getCode();
    Metadata trailers = failed.getTrailers() == null ? new Metadata() : failed.getTrailers();
    String id = trailers.get(REQUEST_ID);
    requestId = id == null ? "" : id;
    for (Any detail : details(failed)) {
      try {
        note(detail);
      } catch (InvalidProtocolBufferException damaged) {
        // What lies between client and service may send anything; the code and the message are there all the same.
      }
    }
  }

  /** The error of a failed call of gRPC. */
  public static CirException of(StatusRuntimeException failed) {
    return new CirException(failed);
  }

  /** gRPC's code. */
  public Status.Code code() {
    return code;
  }

  /** For programs: a name of {@link ErrorReason}, empty where no service said one. */
  public String reason() {
    return reason;
  }

  /** Whether this is the reason. */
  public boolean is(ErrorReason reason) {
    return this.reason.equals(reason.name());
  }

  /** Path of the request's field at fault, empty where none is. */
  public String field() {
    return field;
  }

  /** Time after which trying again makes sense, zero where none was said. */
  public Duration retryAfter() {
    return retryAfter;
  }

  /** Further facts of the reason, such as a limit. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /** Id under which the services logged the call. */
  public String requestId() {
    return requestId;
  }

  /** Code, reason, field and message. */
  @Override
  public String toString() {
    String at = (reason.isEmpty() ? "" : " " + reason) + (field.isEmpty() ? "" : " in " + field);
    return "cir: " + code + at + ": " + getMessage();
  }

  /** The words of a status, and of what kept a call from a service: the address that refused, the name that is none. */
  private static String message(Status status) {
    String words = status.getDescription() == null ? "" : status.getDescription();
    String why = status.getCause() == null ? null : status.getCause().getMessage();
    if (why == null || words.contains(why)) {
      return words;
    }
    return words.isEmpty() ? why : words + ": " + why;
  }

  private static List<Any> details(StatusRuntimeException failed) {
    try {
      var found = StatusProto.fromThrowable(failed);
      return found == null ? List.of() : found.getDetailsList();
    } catch (IllegalArgumentException damaged) {
      return List.of();
    }
  }

  private void note(Any detail) throws InvalidProtocolBufferException {
    if (detail.is(ErrorInfo.class)) {
      ErrorInfo info = detail.unpack(ErrorInfo.class);
      if (info.getDomain().equals("cir")) {
        reason = info.getReason();
        metadata = info.getMetadataMap();
      }
    } else if (detail.is(BadRequest.class)) {
      BadRequest request = detail.unpack(BadRequest.class);
      field = request.getFieldViolationsCount() > 0 ? request.getFieldViolations(0).getField() : "";
    } else if (detail.is(RetryInfo.class)) {
      var delay = detail.unpack(RetryInfo.class).getRetryDelay();
      retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
    }
  }
}
