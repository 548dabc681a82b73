package cir.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor.JavaType;
import com.google.protobuf.MapEntry;
import com.google.protobuf.Message;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/** Texts that are no Unicode, because they hold half of a surrogate pair: on the wire a question mark would stand there. */
final class Unicode {
  static final String PROBLEM = " holds half of a surrogate pair, which is no Unicode";

  private Unicode() {}

  /** The path of the first text of a message that is no Unicode, or empty where all are: "turns[0].text". */
  static String problem(Message message) {
    for (Map.Entry<FieldDescriptor, Object> entry : message.getAllFields().entrySet()) {
      FieldDescriptor field = entry.getKey();
      JavaType type = field.getJavaType();
      if (type != JavaType.STRING && type != JavaType.MESSAGE) {
        continue;
      }
      if (!field.isRepeated()) {
        String path = within(entry.getValue());
        if (path != null) {
          return field.getName() + path;
        }
        continue;
      }
      int place = 0;
      for (Object element : (List<?>) entry.getValue()) {
        String path = within(element);
        if (path != null) {
          Object at = element instanceof MapEntry<?, ?> named ? "\"" + named.getKey() + "\"" : place;
          return repaired(field.getName() + "[" + at + "]" + path.replaceFirst("^\\.(key|value)", ""));
        }
        place++;
      }
    }
    return "";
  }

  /** The path within a value of a field; null where all its texts are Unicode. */
  private static String within(Object value) {
    if (value instanceof Message message) {
      String path = problem(message);
      return path.isEmpty() ? null : "." + path;
    }
    return value instanceof String text && !isUnicode(text) ? "" : null;
  }

  private static boolean isUnicode(String text) {
    for (int place = 0; place < text.length(); place++) {
      if (Character.isSurrogate(text.charAt(place))) {
        return isUnicodeWithPairs(text);
      }
    }
    return true;
  }

  private static boolean isUnicodeWithPairs(String text) {
    try {
      StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
      return true;
    } catch (CharacterCodingException half) {
      return false;
    }
  }

  /** The text with question marks for halves of pairs. */
  static String repaired(String text) {
    ByteBuffer bytes = StandardCharsets.UTF_8.encode(text);
    return StandardCharsets.UTF_8.decode(bytes).toString();
  }
}
