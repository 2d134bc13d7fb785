import com.sun.net.httpserver.*;
import java.io.IOException;
import java.sql.*;
import java.util.Map;
import javax.sql.DataSource;

/** Chooses the database by X-Shard, and answers 503 while the shard's data moves. */
record ByShard(Map<String, DataSource> shards, Work work) implements HttpHandler {
    interface Work { byte[] answer(HttpExchange exchange, Connection connection) throws SQLException; }

    public void handle(HttpExchange exchange) throws IOException {
        int status = 200;
        byte[] answer = {};
        try (var connection = shards.get(exchange.getRequestHeaders().getFirst("X-Shard")).getConnection()) {
            connection.setAutoCommit(false); // what is not committed, close() rolls back
            answer = work.answer(exchange, connection);
            connection.commit();
        } catch (SQLException error) { // 55006: the database refused a range that has left it
            status = "55006".equals(error.getSQLState()) ? 503 : 500;
            if (status == 503) exchange.getResponseHeaders().set("Retry-After", "1");
        }
        exchange.sendResponseHeaders(status, answer.length == 0 ? -1 : answer.length);
        try (var body = exchange.getResponseBody()) { body.write(answer); }
    }
}
