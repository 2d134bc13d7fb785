import com.sun.net.httpserver.HttpServer;
import java.lang.reflect.Proxy;
import java.net.InetSocketAddress;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import javax.sql.DataSource;

/** The helper behind the JDK's own server, with databases of one list each, for the test. */
class Serve {
    /** A database: rows that were committed, and connections that were given back. */
    static class Pool {
        final List<String> rows = new ArrayList<>();
        final boolean isClosed;
        int givenBack;

        Pool(boolean isClosed) {
            this.isClosed = isClosed;
        }

        /** Only what the helper and the application below call. */
        Connection connection() {
            var pending = new ArrayList<String>();
            return proxy(Connection.class, (name, argument) -> {
                switch (name) {
                    case "commit" -> rows.addAll(pending);
                    case "close" -> givenBack++;
                    case "nativeSQL" -> {
                        pending.add(argument);
                        if (isClosed) throw new SQLException("moved", "55006");
                        if (argument.endsWith("99")) throw new SQLException("twice", "23505");
                    }
                    case "getCatalog" -> {
                        return (rows.size() + pending.size()) + " " + givenBack;
                    }
                    default -> { }
                }
                return null;
            });
        }

        DataSource source() {
            return proxy(DataSource.class, (name, argument) -> connection());
        }
    }

    interface Call {
        Object of(String name, String argument) throws SQLException;
    }

    static <T> T proxy(Class<T> type, Call call) {
        var made = Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type},
            (self, method, arguments) ->
                call.of(method.getName(), arguments == null ? "" : String.valueOf(arguments[0])));
        return type.cast(made);
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, DataSource> shards =
            Map.of("a", new Pool(false).source(), "b", new Pool(true).source());
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", new ByShard(shards, (exchange, connection) -> {
            if (exchange.getRequestMethod().equals("POST")) {
                connection.nativeSQL(exchange.getRequestURI().getPath());
            }
            var shard = exchange.getRequestHeaders().getFirst("X-Shard");
            return (shard + " " + connection.getCatalog()).getBytes();
        }));
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
        System.out.println("http://127.0.0.1:" + server.getAddress().getPort());
    }
}
